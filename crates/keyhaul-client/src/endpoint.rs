//! What a user types to name one end of a migration: URIs, bare addresses, credentials, TLS files.
//!
//! Pure text to data; nothing is resolved or opened here. See [`crate::connector`] for that.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::secret::Secret;

/// The port of a server when none is named.
pub const DEFAULT_PORT: u16 = 6379;
/// The port of a Sentinel when none is named.
pub const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Where one process listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP address (IPv6 without brackets) and a port.
    Tcp {
        /// Host name, IPv4 or IPv6 address.
        host: String,
        /// 1..=65535.
        port: u16,
    },
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl Address {
    /// Parses `host`, `host:port`, `1.2.3.4:port`, `[::1]:port`, `::1`.
    ///
    /// # Errors
    /// [`EndpointError::BadAddress`] for an empty host, a port that is no number, or stray brackets.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, EndpointError> {
        let bad = |reason| EndpointError::BadAddress {
            address: text.to_owned(),
            reason,
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest
                .split_once(']')
                .ok_or_else(|| bad("a ']' is missing"))?;
            match rest {
                "" => (host, None),
                _ => (
                    host,
                    Some(
                        rest.strip_prefix(':')
                            .ok_or_else(|| bad("a ':' is missing"))?,
                    ),
                ),
            }
        } else if text.matches(':').count() > 1 {
            (text, None) // an IPv6 address without brackets
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        if host
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '/')
        {
            return Err(bad("the host holds a character that no host name has"));
        }
        let port = match port {
            None => default_port,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(bad("the port must be a number from 1 to 65535")),
            },
        };
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How the server or cluster is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seeds {
    /// Servers of the deployment; any one of them that answers is enough.
    Servers(Vec<Address>),
    /// Sentinels that know the primary by name.
    Sentinels {
        /// The Sentinels; any one that answers is enough.
        addresses: Vec<Address>,
        /// The name under which they watch the primary.
        primary_name: String,
    },
}

/// The TLS settings of one side. Without a CA file, what the machine trusts is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Accept any certificate. Only when the user asked for it by name.
    pub insecure: bool,
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// One end of a migration as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to begin looking.
    pub seeds: Seeds,
    /// `Some` for `rediss://`, `valkeys://`.
    pub tls: Option<TlsOptions>,
    /// ACL user; `None` is the server's default user.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<Secret>,
    /// The db number of the URI, if it names one.
    pub db: Option<u32>,
}

/// Why a text names no endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The scheme is none of ours.
    #[error(
        "unknown scheme '{scheme}://': use redis://, rediss://, valkey://, valkeys://, unix://, redis-sentinel:// or host:port"
    )]
    UnknownScheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// A user or password in front of a bare address.
    #[error("a login needs a scheme: use redis://user:password@host:port")]
    LoginWithoutScheme,
    /// What stands before `://` is no scheme.
    #[error("this is no URI: use redis://user:password@host:port")]
    NoUri,
    /// A `?parameter` that is none of ours; it may hold a password and is not shown.
    #[error("the only parameter that a URI takes is ?db=N, behind a socket path")]
    UnknownParameter,
    /// A host or port that cannot be one.
    #[error("bad address '{address}': {reason}")]
    BadAddress {
        /// The part of the URI that is wrong; never the one with the password.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A db that is no number.
    #[error("bad db number '{db}': use a number like /0 at the end of the URI")]
    BadDb {
        /// What stood in the place of the number.
        db: String,
    },
    /// A `redis-sentinel://` URI without the name of the primary.
    #[error("the name of the primary is missing: use redis-sentinel://host,host/NAME")]
    NoPrimaryName,
    /// A `unix://` URI without a path.
    #[error("the path of the socket is missing: use unix:///path")]
    NoSocketPath,
    /// Nothing was given.
    #[error("the address is empty: use host:port or a URI such as redis://host:6379")]
    Empty,
    /// User name or password is not UTF-8 after percent decoding.
    #[error("user name or password in the URI is no UTF-8 after percent decoding")]
    BadCredentials,
}

impl Endpoint {
    /// Parses every form of an endpoint that is a server.
    ///
    /// # Errors
    /// One variant of [`EndpointError`] for each thing that can be wrong. Passwords are in none.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.contains('@') {
                return Err(EndpointError::LoginWithoutScheme);
            }
            let seeds = Seeds::Servers(addresses(text, DEFAULT_PORT)?);
            return Ok(Self {
                seeds,
                tls: None,
                user: None,
                password: None,
                db: None,
            });
        };
        // What stands here may be the password of a URI with a slip: it is not shown.
        if !scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '+')
        {
            return Err(EndpointError::NoUri);
        }
        let is_unix = scheme.to_ascii_lowercase().contains("unix");
        refuse_parameters(rest, is_unix)?;
        match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => Self::parse_servers(rest, None),
            "rediss" | "valkeys" => Self::parse_servers(rest, Some(TlsOptions::default())),
            "unix" | "redis+unix" | "valkey+unix" => Self::parse_unix(rest),
            "redis-sentinel" | "valkey-sentinel" => Self::parse_sentinel(rest, None),
            "rediss-sentinel" | "valkeys-sentinel" => {
                Self::parse_sentinel(rest, Some(TlsOptions::default()))
            }
            _ => Err(EndpointError::UnknownScheme {
                scheme: scheme.to_owned(),
            }),
        }
    }

    fn parse_servers(rest: &str, tls: Option<TlsOptions>) -> Result<Self, EndpointError> {
        let (user, password, rest) = credentials(rest)?;
        let (hosts, db) = match rest.split_once('/') {
            Some((hosts, db)) => (hosts, db_number(db)?),
            None => (rest, None),
        };
        Ok(Self {
            seeds: Seeds::Servers(addresses(hosts, DEFAULT_PORT)?),
            tls,
            user,
            password,
            db,
        })
    }

    fn parse_unix(rest: &str) -> Result<Self, EndpointError> {
        if !rest.contains('/') {
            return Err(EndpointError::NoSocketPath);
        }
        // A socket path may hold '@', so credentials are only looked for before the first '/'.
        let (user, password, rest) = match rest.find('/') {
            Some(slash) if rest[..slash].contains('@') => credentials(rest)?,
            _ => (None, None, rest),
        };
        let (path, db) = match rest.split_once('?') {
            Some((path, query)) => match query.split_once('=') {
                Some(("db", db)) => (path, db_number(db)?),
                _ => {
                    return Err(EndpointError::BadDb {
                        db: query.to_owned(),
                    });
                }
            },
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(EndpointError::NoSocketPath);
        }
        let seeds = Seeds::Servers(vec![Address::Unix(PathBuf::from(path))]);
        Ok(Self {
            seeds,
            tls: None,
            user,
            password,
            db,
        })
    }

    fn parse_sentinel(rest: &str, tls: Option<TlsOptions>) -> Result<Self, EndpointError> {
        let (user, password, rest) = credentials(rest)?;
        let (hosts, path) = rest.split_once('/').ok_or(EndpointError::NoPrimaryName)?;
        let (name, db) = match path.split_once('/') {
            Some((name, db)) => (name, db_number(db)?),
            None => (path, None),
        };
        if name.is_empty() {
            return Err(EndpointError::NoPrimaryName);
        }
        let seeds = Seeds::Sentinels {
            addresses: addresses(hosts, DEFAULT_SENTINEL_PORT)?,
            primary_name: name.to_owned(),
        };
        Ok(Self {
            seeds,
            tls,
            user,
            password,
            db,
        })
    }
}

/// The endpoint without its credentials: safe to show and to store.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |list: &[Address]| {
            list.iter()
                .map(Address::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let s = if self.tls.is_some() { "s" } else { "" };
        match &self.seeds {
            Seeds::Servers(list) if matches!(list.as_slice(), [Address::Unix(_)]) => {
                f.write_str(&join(list))?;
                return self.db.map_or(Ok(()), |db| write!(f, "?db={db}"));
            }
            Seeds::Servers(list) => write!(f, "redis{s}://{}", join(list))?,
            Seeds::Sentinels {
                addresses,
                primary_name,
            } => {
                write!(f, "redis{s}-sentinel://{}/{primary_name}", join(addresses))?;
            }
        }
        self.db.map_or(Ok(()), |db| write!(f, "/{db}"))
    }
}

type Credentials<'a> = (Option<String>, Option<Secret>, &'a str);

/// Splits `[user[:pass]@]rest`; `:pass@` has an empty user, which is the default user.
fn credentials(text: &str) -> Result<Credentials<'_>, EndpointError> {
    // A password typed raw may hold '@' and '/', so the last '@' ends it.
    let Some((login, rest)) = text.rsplit_once('@') else {
        return Ok((None, None, text));
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded
            .map(|t| t.into_owned())
            .map_err(|_| EndpointError::BadCredentials)
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    let password = password.map(decode).transpose()?.filter(|p| !p.is_empty());
    Ok((user, password.map(Secret::new), rest))
}

fn addresses(text: &str, default_port: u16) -> Result<Vec<Address>, EndpointError> {
    if text.is_empty() {
        return Err(EndpointError::Empty);
    }
    text.split(',')
        .map(|one| Address::parse(one.trim(), default_port))
        .collect()
}

/// Only `?db=N` behind a socket path is taken. The login is passed over: a password may hold `?`.
fn refuse_parameters(rest: &str, is_unix: bool) -> Result<(), EndpointError> {
    let behind_login = rest.rsplit('@').next().unwrap_or_default();
    let Some((_, query)) = behind_login.split_once('?') else {
        return Ok(());
    };
    match query.strip_prefix("db=") {
        Some(db) if is_unix && db.chars().all(|c| c.is_ascii_digit()) => Ok(()),
        _ => Err(EndpointError::UnknownParameter),
    }
}

fn db_number(text: &str) -> Result<Option<u32>, EndpointError> {
    if text.is_empty() {
        return Ok(None);
    }
    let db = text.parse().ok().filter(|db| *db <= i32::MAX as u32);
    db.map(Some).ok_or_else(|| EndpointError::BadDb {
        db: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_endpoint() {
        // (typed, shown again, user, password)
        let rows = [
            ("host", "redis://host:6379", None, None),
            ("host:7000", "redis://host:7000", None, None),
            ("[::1]:7000", "redis://[::1]:7000", None, None),
            ("::1", "redis://[::1]:6379", None, None),
            ("a,b:1", "redis://a:6379,b:1", None, None),
            ("redis://h", "redis://h:6379", None, None),
            ("valkey://h:1/3", "redis://h:1/3", None, None),
            ("REDISS://h", "rediss://h:6379", None, None),
            (
                "valkeys://u:p@h/0",
                "rediss://h:6379/0",
                Some("u"),
                Some("p"),
            ),
            ("redis://:p%40ss@h", "redis://h:6379", None, Some("p@ss")),
            (
                "redis://u:p@ss:/w@h:1",
                "redis://h:1",
                Some("u"),
                Some("p@ss:/w"),
            ),
            ("redis://u@h", "redis://h:6379", Some("u"), None),
            (
                "redis://[fe80::1]/2",
                "redis://[fe80::1]:6379/2",
                None,
                None,
            ),
            ("unix:///tmp/a@b.sock", "unix:///tmp/a@b.sock", None, None),
            ("unix:///tmp/s?db=4", "unix:///tmp/s?db=4", None, None),
            ("unix://u:p@/tmp/s", "unix:///tmp/s", Some("u"), Some("p")),
            (
                "redis-sentinel://:p@a,b:1/main/2",
                "redis-sentinel://a:26379,b:1/main/2",
                None,
                Some("p"),
            ),
        ];
        for (typed, shown, user, password) in rows {
            let endpoint = Endpoint::parse(typed).unwrap_or_else(|e| panic!("{typed}: {e}"));
            assert_eq!(endpoint.to_string(), shown, "{typed}");
            assert_eq!(endpoint.user.as_deref(), user, "{typed}");
            assert_eq!(
                endpoint.password.as_ref().map(Secret::reveal),
                password,
                "{typed}"
            );
            assert!(!format!("{endpoint:?}").contains("p@ss"), "{typed}");
        }
    }

    #[test]
    fn what_is_refused() {
        let rows = [
            ("", "the address is empty"),
            ("http://h", "unknown scheme 'http://'"),
            ("redis://", "the address is empty"),
            ("redis://h:0", "from 1 to 65535"),
            ("redis://h:x", "from 1 to 65535"),
            ("redis://h:70000", "from 1 to 65535"),
            ("redis://h/x", "bad db number 'x'"),
            ("redis://h/-1", "bad db number '-1'"),
            ("redis://[::1", "a ']' is missing"),
            ("redis://secret:pw@", "the address is empty"),
            ("h,,i", "the host is missing"),
            ("unix://", "the path of the socket is missing"),
            ("redis-sentinel://h", "the name of the primary is missing"),
            ("redis-sentinel://h/", "the name of the primary is missing"),
            ("redis://a b", "no host name has"),
            ("u:pw@host", "a login needs a scheme"),
            (":pw@redis://h", "this is no URI"),
            ("redis://h:6379?password=pw", "the only parameter"),
            ("redis://h/0?password=pw", "the only parameter"),
            ("unix:///s?db=1&password=pw", "the only parameter"),
            ("unix:///s?db=x", "the only parameter"),
            ("unix://u:pw@", "the path of the socket is missing"),
            ("u:pw@h:1", "a login needs a scheme"),
        ];
        for (typed, reason) in rows {
            let error = Endpoint::parse(typed).expect_err(typed).to_string();
            assert!(error.contains(reason), "{typed}: {error}");
            assert!(!error.contains("pw"), "{typed}: {error}");
        }
    }
}
