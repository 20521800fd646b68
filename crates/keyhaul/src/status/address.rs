//! `--status-listen`: where others can look at a running job.

use crate::usage::UsageError;

/// Where we listen unless a host is named: only this machine can look.
const HOST: &str = "127.0.0.1";

/// A host and a port, not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// A name or an address; one of IPv6 without brackets.
    pub(crate) host: String,
    /// 0: any that is free.
    pub(crate) port: u16,
}

impl ListenAddress {
    /// Understands `host:port`, `[::1]:port`, `:port` and `port`.
    ///
    /// # Errors
    /// [`UsageError`], without what was typed.
    pub(crate) fn parse(text: &str) -> Result<Self, UsageError> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number);
        match (host_name(host), port) {
            (Some(host), Some(port)) => Ok(Self { host, port }),
            _ => Err(UsageError::new(
                "--status-listen needs an address like 127.0.0.1:9121, [::1]:9121, :9121 or 9121",
            )),
        }
    }
}

fn host_name(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(HOST.to_owned());
    }
    if let Some(text) = text.strip_prefix('[') {
        let address = text.strip_suffix(']')?;
        let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
        return is_address.then(|| address.to_owned());
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text.bytes().all(is_name).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let rows = [
            ("9121", Some(("127.0.0.1", 9121))),
            (":9121", Some(("127.0.0.1", 9121))),
            ("0", Some(("127.0.0.1", 0))),
            ("0.0.0.0:9121", Some(("0.0.0.0", 9121))),
            ("my-host.local:1", Some(("my-host.local", 1))),
            ("[::1]:65535", Some(("::1", 65535))),
            (" :1 ", Some(("127.0.0.1", 1))),
            ("", None),
            (":", None),
            ("host", None),
            ("host:", None),
            ("host:65536", None),
            ("host:+1", None),
            ("::1:9", None),
            ("[::1]", None),
            ("[x]:9", None),
            ("http://host:9", None),
            ("u:p@host:9", None),
        ];
        for (text, expected) in rows {
            let got = ListenAddress::parse(text).ok();
            let got = got.as_ref().map(|a| (a.host.as_str(), a.port));
            assert_eq!(got, expected, "{text}");
        }
    }
}
