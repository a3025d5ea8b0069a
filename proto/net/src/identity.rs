//! Who this side is: a signing key and the certificate that carries its public half.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use proto::PublicKey;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::certificate::{self, CertificateError};

/// A key with its certificate, or nobody. Cheap to clone; `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Option<Arc<CertifiedKey>>,
}

impl Identity {
    /// A key that stands in the root: an operator's, CI's, the coordinator's.
    ///
    /// # Errors
    ///
    /// [`CertificateError`], if no certificate can be made to carry it.
    pub fn person(key: SigningKey) -> Result<Self, CertificateError> {
        let der = certificate::self_signed(&key)?;
        Ok(Self::with(key, der))
    }

    /// A host's key with the certificate that a host CA issued for it.
    ///
    /// # Errors
    ///
    /// [`CertificateError`], if that is not a certificate of that key.
    pub fn host(key: SigningKey, certificate: Vec<u8>) -> Result<Self, CertificateError> {
        match certificate::facts(&certificate)?.key == PublicKey::of(&key) {
            true => Ok(Self::with(key, certificate)),
            false => Err(CertificateError::Key),
        }
    }

    /// Nobody: a host that has yet to join. It can dial and cannot serve.
    pub const fn anonymous() -> Self {
        Self { certified: None }
    }

    pub(crate) fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.certified.clone()
    }

    fn with(key: SigningKey, der: Vec<u8>) -> Self {
        let key = Arc::new(TlsKey(Arc::new(key)));
        let certified = CertifiedKey::new(vec![CertificateDer::from(der)], key);
        Self { certified: Some(Arc::new(certified)) }
    }
}

/// Signs TLS handshakes without the secret being copied into another library's form.
#[derive(Clone)]
struct TlsKey(Arc<SigningKey>);

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsKey({})", PublicKey::of(&self.0))
    }
}

impl rustls::sign::SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let ed25519 = offered.contains(&SignatureScheme::ED25519);
        ed25519.then(|| Box::new(self.clone()) as Box<dyn rustls::sign::Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl rustls::sign::Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
