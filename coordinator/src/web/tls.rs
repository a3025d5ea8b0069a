//! The certificate of the pages: the operator's own, or one that the coordinator makes.
//!
//! One that it makes is for the name and the address that people use, lies in `state_dir/https.pem` with its
//! key, and is made anew in time, with a new key. Browsers warn of it; `swell login` prints its fingerprint, by
//! way of a connection that is authenticated, so that people can compare. ECDSA on P-256, since
//! browsers take no ed25519.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable::SecretError;
use member::clock;
use proto::UnixTime;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{CertificateFiles, Config};

/// Life of a certificate that is made here, in days: browsers take none that is longer.
const LIFE_DAYS: u64 = 397;
/// How long before its end it is made anew, in seconds: a third of its life.
const RENEW_S: u64 = LIFE_DAYS * 86_400 / 3;
/// Longest file of certificates, or of a key, in bytes.
const PEM_BYTES_MAX: u64 = 256 << 10;

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep or read the key of the pages")]
    Secret(#[from] SecretError),
    #[error("{path:?} holds no {what} in PEM")]
    NoPem { path: PathBuf, what: &'static str },
    #[error("cannot make a certificate for the pages: {0}")]
    Make(#[from] rcgen::Error),
    #[error("certificate and key of the pages do not fit")]
    Unfit(#[from] rustls::Error),
    #[error("the certificate of the pages does not read: {0}")]
    Malformed(String),
}

/// What connections are taken with.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// SHA-256 of the certificate, as browsers show it.
    pub(crate) fingerprint: String,
    pub(crate) expires: UnixTime,
}

/// Reads the certificate, and makes one first where that is for us to do. Blocks on the disk.
///
/// # Errors
///
/// [`TlsError`].
pub(crate) fn load(config: &Config) -> Result<Tls, TlsError> {
    match &config.https_files {
        Some(files) => read(files),
        None => {
            let files = own_files(&config.state_dir);
            match read(&files) {
                Ok(tls) if clock::unix().plus_s(RENEW_S) < tls.expires => Ok(tls),
                _ => {
                    make(config, &files)?;
                    read(&files)
                }
            }
        }
    }
}

fn own_files(state_dir: &Path) -> CertificateFiles {
    let both = state_dir.join("https.pem");
    CertificateFiles { cert: both.clone(), key: both }
}

fn read(files: &CertificateFiles) -> Result<Tls, TlsError> {
    let CertificateFiles { cert, key } = files;
    let no_pem = |path: &Path, what| TlsError::NoPem { path: path.to_owned(), what };
    let pem = durable::read_bounded(cert, PEM_BYTES_MAX)
        .map_err(|source| TlsError::Read { path: cert.clone(), source })?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| no_pem(cert, "certificate"))?;
    let first = chain.first().ok_or_else(|| no_pem(cert, "certificate"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first)
        .map_err(|error| TlsError::Malformed(error.to_string()))?;
    let expires = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let fingerprint = fingerprint(first);
    let pem = durable::read_secret(key, PEM_BYTES_MAX)?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_pem(key, "key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(server)),
        fingerprint,
        expires: UnixTime(expires),
    })
}

fn make(config: &Config, files: &CertificateFiles) -> Result<(), TlsError> {
    let named = config.https_url.trim_start_matches("https://");
    let name = named.rsplit_once(':').map_or(named, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let names = vec![name, config.advertise.ip().to_string(), "localhost".to_owned()];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "groundswell coordinator");
    let date =
        |at: UnixTime| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(at.0);
    let now = clock::unix();
    // A browser whose clock is a little behind ours takes it, too.
    params.not_before = date(UnixTime(now.0.saturating_sub(3_600)));
    params.not_after = date(now.plus_s(LIFE_DAYS * 86_400 - 3_600));
    let certificate = params.self_signed(&key)?;
    let both = format!("{}{}", key.serialize_pem(), certificate.pem());
    match fs::remove_file(&files.key) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(TlsError::Read { path: files.key.clone(), source: error });
        }
        // Where that is all that happens before a crash, the next start makes another one.
        _ => durable::create_secret(&files.key, both.as_bytes())?,
    }
    Ok(())
}

/// `AB:CD:...`, as browsers show it.
fn fingerprint(der: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, der);
    let pairs: Vec<_> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
