//! Which certificates are trusted: rustls with the system's roots.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The PEM text has no readable certificate.
    #[error("no certificate could be read from it; it must contain PEM blocks that begin with BEGIN CERTIFICATE")]
    CaCert,
    /// Usually because the system has no root certificates.
    #[error("TLS could not be set up: {0}; if the system has no root certificates, install ca-certificates")]
    Setup(String),
}

/// The configuration that all connections share, so that they share TLS sessions too. It trusts the system's roots and
/// the certificates in `ca_cert` (PEM).
pub(crate) fn config(ca_cert: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let failed = |error: rustls::Error| TlsError::Setup(error.to_string());
    let verifier = match ca_cert {
        None => Verifier::new(Arc::clone(&provider)).map_err(failed)?,
        Some(pem) => {
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|_| TlsError::CaCert)?;
            if certificates.is_empty() {
                return Err(TlsError::CaCert);
            }
            Verifier::new_with_extra_roots(certificates, Arc::clone(&provider)).map_err(|_| TlsError::CaCert)?
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous() // rustls requires this for any verifier but its own
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// The configuration for a plain `http` endpoint: trusts no certificate, and does not read the system's roots.
pub(crate) fn untrusting() -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

/// The process's crypto provider if an embedding program has installed one, or else ring.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}
