//! The remedy behind a refusal, in terms of what can be typed.

use keyhaul_client::ClientError;
use keyhaul_engine::plan::PlanError;

/// The error on one line, with what to do about it where that is not in the message already.
pub(crate) fn with_remedy(error: &PlanError) -> String {
    let text = keyhaul_client::chain(error);
    let PlanError::Client { side, error, .. } = error else {
        return text;
    };
    let remedy = match error.as_ref() {
        ClientError::Server { error, .. } => match error.code() {
            b"WRONGPASS" => {
                let variable = side.to_string().to_uppercase();
                format!("check --{side}-user and the password (KEYHAUL_{variable}_PASS)")
            }
            b"NOAUTH" => {
                let variable = side.to_string().to_uppercase();
                format!("the server wants a password: set KEYHAUL_{variable}_PASS")
            }
            b"DENIED" => "set a password on the server, or connect from its own machine".to_owned(),
            _ => return text,
        },
        ClientError::Connect { .. } => {
            "check that the server runs and that address and port are right".to_owned()
        }
        ClientError::Tls { reason, .. } if reason.contains("UnknownIssuer") => {
            format!("name its authority with --{side}-cacert FILE")
        }
        ClientError::Tls { reason, .. } if reason.contains("CertificateRequired") => {
            format!("the server wants a client certificate: --{side}-cert and --{side}-key")
        }
        ClientError::Protocol { .. } => {
            "check that the address is that of a Redis or Valkey server".to_owned()
        }
        _ => return text,
    };
    format!("{text}; {remedy}")
}

#[cfg(test)]
mod tests {
    use keyhaul_client::{Address, ServerError};
    use keyhaul_engine::plan::SideName;

    use super::*;

    #[test]
    fn what_to_do_is_said() {
        let address = Address::parse("h:1", 1).unwrap();
        let server = |text: &'static str| ClientError::Server {
            address: address.clone(),
            error: ServerError::new(text.into()),
        };
        let rows = [
            (server("WRONGPASS invalid"), "check --source-user"),
            (server("NOAUTH needed"), "KEYHAUL_SOURCE_PASS"),
            (server("ERR other"), "ERR other"),
        ];
        for (error, expected) in rows {
            let error = PlanError::Client {
                side: SideName::Source,
                error: Box::new(error),
            };
            let text = with_remedy(&error);
            assert!(text.contains(expected), "{text}");
        }
    }
}
