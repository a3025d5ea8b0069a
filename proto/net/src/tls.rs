//! TLS 1.3 with our own idea of who may be at the other end: the [`Directory`], on both sides.
//!
//! Resumption and 0-RTT are off: every connection proves both keys afresh, so that a change of the
//! root applies to it, and nothing can be replayed.

use std::sync::{Arc, PoisonError, RwLock};

use proto::key::Signature;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, OtherError, PeerMisbehaved, SignatureScheme,
};

use crate::alpn::Alpn;
use crate::certificate;
use crate::clock;
use crate::directory::{Directory, Expect, IdentityError};
use crate::identity::Identity;

/// What clients call every server; identities are keys, names mean nothing.
pub(crate) const SERVER_NAME: &str = "groundswell.invalid";

/// Who this side is now; replaced on renewal, read by each handshake.
#[derive(Debug)]
pub(crate) struct CurrentIdentity(RwLock<Identity>);

impl CurrentIdentity {
    pub(crate) fn new(identity: Identity) -> Self {
        Self(RwLock::new(identity))
    }

    pub(crate) fn set(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).certified()
    }
}

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for CurrentIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.certified().is_some()
    }
}

/// The crypto of an endpoint that answers.
pub(crate) fn server_config(
    identity: Arc<CurrentIdentity>,
    directory: Directory,
) -> Result<QuicServerConfig, rustls::Error> {
    let verifier = Verifier { directory, expect: None };
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity);
    config.alpn_protocols = Alpn::ALL.iter().map(|alpn| alpn.name().as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config)
        .map_err(|_| rustls::Error::General("no initial cipher suite".to_owned()))
}

/// The crypto of one dial.
pub(crate) fn client_config(
    identity: Arc<CurrentIdentity>,
    directory: Directory,
    expect: Expect,
    alpn: Alpn,
) -> Result<QuicClientConfig, rustls::Error> {
    let verifier = Verifier { directory, expect: Some(expect) };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![alpn.name().as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    QuicClientConfig::try_from(config)
        .map_err(|_| rustls::Error::General("no initial cipher suite".to_owned()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Judges the other side's certificate by the directory; `expect` is whom a dialler wants to meet.
#[derive(Clone)]
struct Verifier {
    directory: Directory,
    expect: Option<Expect>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({:?})", self.expect)
    }
}

impl Verifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let now = clock::unix();
        let chain: Vec<&[u8]> =
            std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref).collect();
        let judged = match &self.expect {
            Some(expect) => self.directory.meet(expect, &chain, now),
            None => self.directory.identify(&chain, now),
        };
        judged.map(|_| ()).map_err(refusal)
    }
}

/// Whether the peer holds the key of its certificate. The key is read by the same reader that the
/// [`Directory`] identifies it with: two readers could be made to see two keys in one certificate.
fn handshake_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let key = certificate::key_in(certificate).map_err(|error| refusal(error.into()))?;
    let signature: Option<&[u8; 64]> = signed.signature().try_into().ok();
    match signature.is_some_and(|bytes| key.verifies(message, &Signature::from_bytes(bytes))) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(rustls::CertificateError::BadSignature.into()),
    }
}

/// The error whose text, unlike that of a certificate error, is the verifier's own; QUIC carries it
/// to the other side.
fn refusal(error: IdentityError) -> rustls::Error {
    rustls::Error::Other(OtherError(Arc::new(error)))
}

fn tls12_is_off() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_is_off())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        handshake_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        // Who comes without a certificate may join, and the router sees to it that it does no more.
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_is_off())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        handshake_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
