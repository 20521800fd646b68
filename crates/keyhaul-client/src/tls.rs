//! TLS: turns the files and switches of one side into a connector.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::TlsConnector;

use crate::endpoint::TlsOptions;
use crate::error::ClientError;

/// Reads the files that `options` names and builds the connector.
///
/// # Errors
/// [`ClientError::TlsFile`] for a file that is missing, unreadable, no PEM, or does not fit the others.
pub(crate) fn connector(options: &TlsOptions) -> Result<TlsConnector, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad_file(Path::new("-"), e))?;
    let builder = if options.insecure {
        let verifier = Arc::new(AcceptAnything { provider });
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else if let Some(path) = &options.ca_file {
        builder.with_root_certificates(roots(path)?)
    } else {
        builder
            .with_platform_verifier()
            .map_err(|e| bad_file(Path::new("system roots"), e))?
    };
    let config = match (&options.cert_file, &options.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| bad_file(key, e))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|e| bad_file(cert, e))?
        }
        (Some(path), None) => return Err(bad_file(path, "the key file of the client is missing")),
        (None, Some(path)) => {
            return Err(bad_file(
                path,
                "the certificate file of the client is missing",
            ));
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(path: &Path) -> Result<RootCertStore, ClientError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|e| bad_file(path, e))?;
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let list = CertificateDer::pem_file_iter(path)
        .and_then(|iter| iter.collect::<Result<Vec<_>, _>>())
        .map_err(|e| bad_file(path, e))?;
    if list.is_empty() {
        return Err(bad_file(path, "it holds no certificate in PEM form"));
    }
    Ok(list)
}

fn bad_file(path: &Path, reason: impl fmt::Display) -> ClientError {
    ClientError::TlsFile {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The verifier of `--…-insecure`: the peer may be anybody, only the encryption remains.
#[derive(Debug)]
struct AcceptAnything {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
