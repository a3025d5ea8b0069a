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
    secret: Option<Secret>,
}

/// A signing key that no log shows.
#[derive(Clone)]
struct Secret(Arc<SigningKey>);

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
        Self { certified: None, secret: None }
    }

    /// A secret of this identity for `context`, the same after every start; none for nobody.
    pub(crate) fn derived(&self, context: &str) -> Option<[u8; 32]> {
        self.secret.as_ref().map(|key| blake3::derive_key(context, key.0.as_bytes()))
    }

    pub(crate) fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.certified.clone()
    }

    fn with(key: SigningKey, der: Vec<u8>) -> Self {
        let secret = Secret(Arc::new(key));
        let key = Arc::new(TlsKey(secret.clone()));
        let certified = CertifiedKey::new(vec![CertificateDer::from(der)], key);
        Self { certified: Some(Arc::new(certified)), secret: Some(secret) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {})", PublicKey::of(&self.0))
    }
}

/// Signs TLS handshakes without the secret being copied into another library's form.
#[derive(Clone, Debug)]
struct TlsKey(Secret);

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
        Ok(self.0.0.sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Fleet, key, loopback, now, serve};
    use crate::{Alpn, ConnectError, Endpoint, Expect};

    /// Whoever saw a certificate can show it; only its host can sign with its key.
    #[tokio::test]
    async fn r9_a_certificate_is_nothing_without_its_key() {
        let fleet = Fleet::new("fleet-a");
        let der = certificate::issue(&fleet.ca, &fleet.host("one"), now(), 1).unwrap();
        let thief = || Identity::with(key("thief"), der.clone());
        let (_server, addr, _stop) = serve(fleet.identity("server"), fleet.directory());
        let client = Endpoint::bind(loopback(), thief(), fleet.directory()).unwrap();
        let refused = client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused { .. }), "as a client: {refused:?}");

        let (_server, addr, _stop) = serve(thief(), fleet.directory());
        let client = Endpoint::bind(loopback(), fleet.identity("two"), fleet.directory()).unwrap();
        let refused = client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap_err();
        assert!(matches!(refused, ConnectError::WrongPeer { .. }), "as a server: {refused:?}");
    }
}
