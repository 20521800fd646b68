//! The options that exist once for each end: login and TLS, and how they complete what a URI says.

use std::path::PathBuf;

use keyhaul_client::{Address, Endpoint, Secret, Seeds, TlsOptions};
use keyhaul_engine::place::Place;

use crate::usage::UsageError;

/// The same options with another prefix: `--source-user`, `--target-user`.
macro_rules! side_args {
    ($name:ident, $side:literal, $password_variable:literal) => {
        #[doc = concat!("The options of the ", $side, ".")]
        #[derive(clap::Args)]
        pub(crate) struct $name {
            #[arg(
                id = concat!($side, "-user"),
                long = concat!($side, "-user"),
                value_name = "NAME",
                help = concat!("ACL user of the ", $side)
            )]
            user: Option<String>,

            #[arg(
                id = concat!($side, "-pass"),
                long = concat!($side, "-pass"),
                value_name = "PASSWORD",
                help = concat!(
                    "Password of the ", $side, ", seen by all who may list processes: better in ",
                    "the variable ", $password_variable, " or REDISCLI_AUTH"
                )
            )]
            password: Option<String>,

            #[arg(
                id = concat!($side, "-insecure"),
                long = concat!($side, "-insecure"),
                help = concat!("TLS to the ", $side, " without checking its certificate")
            )]
            insecure: bool,

            #[arg(
                id = concat!($side, "-cacert"),
                long = concat!($side, "-cacert"),
                value_name = "FILE",
                help = concat!(
                    "TLS to the ", $side, ": trust these authorities (PEM) instead of the system's"
                )
            )]
            ca_file: Option<PathBuf>,

            #[arg(
                id = concat!($side, "-cert"),
                long = concat!($side, "-cert"),
                value_name = "FILE",
                help = concat!("TLS to the ", $side, ": certificate of the client (PEM)")
            )]
            cert_file: Option<PathBuf>,

            #[arg(
                id = concat!($side, "-key"),
                long = concat!($side, "-key"),
                value_name = "FILE",
                help = concat!("TLS to the ", $side, ": key of that certificate (PEM)")
            )]
            key_file: Option<PathBuf>,
        }

        impl $name {
            pub(crate) fn typed(&self) -> SideTyped<'_> {
                SideTyped {
                    side: $side,
                    user: self.user.as_deref(),
                    password: self.password.as_deref(),
                    tls: TlsOptions {
                        insecure: self.insecure,
                        ca_file: self.ca_file.clone(),
                        cert_file: self.cert_file.clone(),
                        key_file: self.key_file.clone(),
                    },
                }
            }
        }
    };
}

side_args!(SourceArgs, "source", "KEYHAUL_SOURCE_PASS");
side_args!(TargetArgs, "target", "KEYHAUL_TARGET_PASS");

/// What was typed for one end, beside its URI.
pub(crate) struct SideTyped<'a> {
    pub(crate) side: &'static str,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a str>,
    pub(crate) tls: TlsOptions,
}

/// One end, and what is worth saying about how it was understood.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) place: Place,
    pub(crate) note: Option<String>,
}

/// A source: servers, or RDB files separated by commas.
pub(crate) fn resolve_source(
    text: &str,
    typed: &SideTyped<'_>,
    from_environment: &[Option<&str>],
) -> Result<Resolved, UsageError> {
    match file_path(text) {
        // A name may hold a comma itself.
        Some(path) if path.exists() || !text.contains(',') => files(vec![path], typed),
        Some(_) => {
            let paths = text.split(',').filter(|part| !part.is_empty());
            let path = |part: &str| file_path(part).unwrap_or_else(|| part.into());
            files(paths.map(path).collect(), typed)
        }
        None => resolve(text, typed, from_environment),
    }
}

/// A target: servers, or one RDB file.
pub(crate) fn resolve_target(
    text: &str,
    typed: &SideTyped<'_>,
    from_environment: &[Option<&str>],
) -> Result<Resolved, UsageError> {
    match file_path(text) {
        Some(path) => files(vec![path], typed),
        None => resolve(text, typed, from_environment),
    }
}

fn files(paths: Vec<PathBuf>, typed: &SideTyped<'_>) -> Result<Resolved, UsageError> {
    let side = typed.side;
    let login = [("user", typed.user), ("pass", typed.password)];
    let login = login.into_iter().find(|(_, given)| given.is_some());
    let option = login.map(|(name, _)| name).or(first_tls_option(&typed.tls));
    if let Some(option) = option {
        return Err(UsageError::new(format!(
            "--{side}-{option} does not fit a file: the {side} is one"
        )));
    }
    if paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(UsageError::new(format!(
            "{side}: file: needs a path, like file:dump.rdb"
        )));
    }
    Ok(Resolved {
        place: Place::Files(paths),
        note: None,
    })
}

/// The path of `file:PATH`, `file://PATH`, or of a path that ends in `.rdb`.
pub(crate) fn file_path(text: &str) -> Option<PathBuf> {
    if let Some(path) = text.strip_prefix("file:") {
        let local = path
            .strip_prefix("//localhost")
            .filter(|path| path.starts_with('/'));
        let path = local.or(path.strip_prefix("//")).unwrap_or(path);
        return Some(path.into());
    }
    let is_path = !text.contains("://") && text.ends_with(".rdb");
    is_path.then(|| text.into())
}

/// Makes an endpoint of its URI, its options and the passwords of the environment.
///
/// The first password found counts: option, URI, then `from_environment` in its order.
fn resolve(
    uri: &str,
    typed: &SideTyped<'_>,
    from_environment: &[Option<&str>],
) -> Result<Resolved, UsageError> {
    let side = typed.side;
    let mut endpoint = parse(uri).map_err(|e| UsageError::new(format!("{side}: {e}")))?;
    if let Some(user) = typed.user {
        endpoint.user = Some(user.to_owned()).filter(|user| !user.is_empty());
    }
    if let Some(password) = typed.password {
        // An empty one says: none, whatever the environment holds.
        endpoint.password = Some(password).filter(|p| !p.is_empty()).map(Secret::new);
    } else if endpoint.password.is_none() {
        let found = from_environment
            .iter()
            .flatten()
            .find(|password| !password.is_empty());
        endpoint.password = found.map(|password| Secret::new(*password));
    }
    let note = apply_tls(&mut endpoint, typed)?;
    Ok(Resolved {
        place: Place::Servers(endpoint),
        note,
    })
}

/// TLS options switch TLS on where the scheme did not.
fn apply_tls(endpoint: &mut Endpoint, typed: &SideTyped<'_>) -> Result<Option<String>, UsageError> {
    let (side, tls) = (typed.side, &typed.tls);
    let Some(option) = first_tls_option(tls) else {
        return Ok(None);
    };
    let wrong = |what: &str| Err(UsageError::new(format!("--{side}-{what}")));
    if is_unix_socket(endpoint) {
        return wrong(&format!(
            "{option} does not fit a Unix socket, which has no TLS"
        ));
    }
    if tls.insecure && tls.ca_file.is_some() {
        return wrong(&format!(
            "insecure checks nothing: use it or --{side}-cacert, not both"
        ));
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => return wrong(&format!("cert needs --{side}-key too")),
        (None, Some(_)) => return wrong(&format!("key needs --{side}-cert too")),
        _ => {}
    }
    let was_plain = endpoint.tls.replace(tls.clone()).is_none();
    Ok(was_plain.then(|| format!("{side}: --{side}-{option} switches TLS on, as rediss:// would")))
}

fn first_tls_option(tls: &TlsOptions) -> Option<&'static str> {
    let given = [
        (tls.insecure, "insecure"),
        (tls.ca_file.is_some(), "cacert"),
        (tls.cert_file.is_some(), "cert"),
        (tls.key_file.is_some(), "key"),
    ];
    given
        .into_iter()
        .find_map(|(is_given, name)| is_given.then_some(name))
}

/// Whether the endpoint is one Unix socket.
pub(crate) fn is_unix_socket(endpoint: &Endpoint) -> bool {
    matches!(&endpoint.seeds, Seeds::Servers(list) if matches!(list.as_slice(), [Address::Unix(_)]))
}

/// Parses an endpoint. What is wrong is told without any part of it that could be a password.
fn parse(uri: &str) -> Result<Endpoint, String> {
    Endpoint::parse(uri.trim()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed<'a>() -> SideTyped<'a> {
        SideTyped {
            side: "source",
            user: None,
            password: None,
            tls: TlsOptions::default(),
        }
    }

    fn endpoint(resolved: &Resolved) -> &Endpoint {
        resolved.place.endpoint().unwrap()
    }

    #[test]
    fn files_and_servers() {
        let source = |text: &str| resolve_source(text, &typed(), &[]).map(|r| r.place.to_string());
        for (text, expected) in [
            ("file:a.rdb", "file:a.rdb"),
            ("file:///tmp/x", "file:/tmp/x"),
            ("file://localhost/tmp/x", "file:/tmp/x"),
            ("dir/a.rdb", "file:dir/a.rdb"),
            ("file:a,file:b,c.rdb", "file:a,b,c.rdb"),
            ("a.rdb,b.rdb", "file:a.rdb,b.rdb"),
            ("h:1", "redis://h:1"),
        ] {
            assert_eq!(source(text).ok().as_deref(), Some(expected), "{text}");
        }
        let target = resolve_target("file:a,b.rdb", &typed(), &[]).unwrap();
        assert_eq!(target.place.to_string(), "file:a,b.rdb");
        assert!(source("file:").is_err());
        let with_user = SideTyped {
            user: Some("u"),
            ..typed()
        };
        let error = resolve_source("a.rdb", &with_user, &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("--source-user does not fit a file")
        );
    }

    #[test]
    fn the_first_password_counts() {
        // (URI, option, KEYHAUL_SOURCE_PASS, REDISCLI_AUTH, the one that is used)
        let rows = [
            (
                "redis://:uri@h",
                Some("option"),
                Some("own"),
                Some("cli"),
                Some("option"),
            ),
            (
                "redis://:uri@h",
                None,
                Some("own"),
                Some("cli"),
                Some("uri"),
            ),
            ("redis://h", None, Some("own"), Some("cli"), Some("own")),
            ("redis://h", None, Some(""), Some("cli"), Some("cli")),
            ("redis://u@h", None, None, Some("cli"), Some("cli")),
            ("redis://:uri@h", Some(""), Some("own"), Some("cli"), None),
            ("h", None, None, None, None),
        ];
        for (uri, password, own, cli, expected) in rows {
            let resolved = resolve(
                uri,
                &SideTyped {
                    password,
                    ..typed()
                },
                &[own, cli],
            )
            .unwrap();
            let got = endpoint(&resolved).password.clone();
            assert_eq!(
                got,
                expected.map(Secret::new),
                "{uri} {password:?} {own:?} {cli:?}"
            );
        }
    }

    #[test]
    fn tls_options() {
        let insecure = || TlsOptions {
            insecure: true,
            ..TlsOptions::default()
        };
        let with = |uri, tls| resolve(uri, &SideTyped { tls, ..typed() }, &[]);
        let plain = with("redis://h", TlsOptions::default()).unwrap();
        assert_eq!((&endpoint(&plain).tls, &plain.note), (&None, &None));
        let switched = with("redis://h", insecure()).unwrap();
        assert_eq!(endpoint(&switched).tls, Some(insecure()));
        assert!(switched.note.unwrap().contains("switches TLS on"));
        let named = with("rediss://h", insecure()).unwrap();
        assert_eq!(
            (&endpoint(&named).tls, &named.note),
            (&Some(insecure()), &None)
        );
        let cert = || TlsOptions {
            cert_file: Some("c".into()),
            ..TlsOptions::default()
        };
        let key = || TlsOptions {
            key_file: Some("k".into()),
            ..TlsOptions::default()
        };
        let both = || TlsOptions {
            ca_file: Some("a".into()),
            ..insecure()
        };
        for (uri, tls, reason) in [
            ("unix:///s", insecure(), "does not fit a Unix socket"),
            ("h", cert(), "--source-cert needs --source-key"),
            ("h", key(), "--source-key needs --source-cert"),
            ("h", both(), "not both"),
        ] {
            let error = with(uri, tls).unwrap_err().to_string();
            assert!(error.contains(reason), "{uri}: {error}");
        }
    }

    #[test]
    fn no_complaint_holds_a_password() {
        let uris = [
            "u:hunter2@h:6379",
            ":hunter2@h",
            "hunter2@h,i",
            "hunter2@h:x",
            "redis:/u:hunter2@h",
            "redis//u:hunter2@h:1",
            "u:hunter2@redis://h",
            "redis://u:hunter2@h:x",
            "redis://u:hunter2@h:1/x",
            "redis://u:hunter2@",
            "redis://h:6379?password=hunter2",
            "redis://h/0?password=hunter2",
            "unix:///s?password=hunter2",
            "unix:///s?db=1&password=hunter2",
            "unix://u:hunter2@",
            "redis-sentinel://u:hunter2@h",
            "redis-sentinel://h/main/0?password=hunter2",
            "http://u:hunter2@h",
        ];
        for uri in uris {
            let error = resolve(uri, &typed(), &[]).expect_err(uri).to_string();
            assert!(!error.contains("hunter2"), "{uri}: {error}");
            assert!(!error.contains('\n'), "{uri}: {error}");
        }
    }
}
