//! The certificate of the pages: the operator's own, or one that the coordinator makes.
//!
//! One that it makes is for the names and addresses that people use, lies in `state_dir/https.pem` with its
//! key, and is made anew in time, or where these names change, with a new key. Browsers warn of it; `swell login` prints its fingerprint, by
//! way of a connection that is authenticated, so that people can compare. ECDSA on P-256, since
//! browsers take no ed25519.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
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
use x509_parser::extensions::GeneralName;

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
    #[error("cannot make a certificate for the pages")]
    Make(#[from] rcgen::Error),
    #[error("certificate and key of the pages do not fit")]
    Unfit(#[from] rustls::Error),
    #[error("the certificate of the pages does not read: {0}")]
    Malformed(String),
}

/// The certificate of the pages, as far as others are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of it, as browsers show it.
    pub fingerprint: String,
    pub expires: UnixTime,
    /// The coordinator made it, and makes the next one in time.
    pub is_own: bool,
    /// Names and addresses that it is for.
    pub names: BTreeSet<String>,
}

impl Certificate {
    /// Whether browsers take it for this name: one with a star stands for any one first part.
    pub fn is_for(&self, name: &str) -> bool {
        let under = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.contains(name) || under.is_some_and(|under| self.names.contains(&under))
    }
}

/// What connections are taken with.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) certificate: Certificate,
}

/// Reads the certificate, and makes one first where that is for us to do. Blocks on the disk.
///
/// # Errors
///
/// [`TlsError`].
pub(crate) fn load(config: &Config) -> Result<Tls, TlsError> {
    match &config.https_files {
        Some(files) => read(files, false),
        None => own(config, clock::unix()),
    }
}

fn own(config: &Config, now: UnixTime) -> Result<Tls, TlsError> {
    let (files, names) = (own_files(&config.state_dir), names(config));
    match read(&files, true) {
        Ok(tls)
            if now.plus_s(RENEW_S) < tls.certificate.expires && tls.certificate.names == names =>
        {
            Ok(tls)
        }
        _ => {
            make(names, &files, now)?;
            read(&files, true)
        }
    }
}

/// The certificate as it is on disk: none where one is made at the start. Blocks on the disk.
///
/// # Errors
///
/// [`TlsError`].
pub(crate) fn on_disk(config: &Config) -> Result<Option<Certificate>, TlsError> {
    let files = match &config.https_files {
        Some(files) => return read(files, false).map(|tls| Some(tls.certificate)),
        None => own_files(&config.state_dir),
    };
    // What does not do is made anew.
    Ok(read(&files, true).ok().map(|tls| tls.certificate))
}

/// What people call this place.
fn names(config: &Config) -> BTreeSet<String> {
    BTreeSet::from([called(config), config.advertise.ip().to_string(), "localhost".to_owned()])
}

/// The name or the address that people are sent to.
pub(crate) fn called(config: &Config) -> String {
    let named = config.https_url.trim_start_matches("https://");
    let name = match named.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => named.split(':').next(),
    };
    let name = name.unwrap_or_default();
    // An address has one way to be written.
    name.parse().map_or_else(|_| name.to_owned(), |ip: IpAddr| ip.to_string())
}

fn own_files(state_dir: &Path) -> CertificateFiles {
    let both = state_dir.join("https.pem");
    CertificateFiles { cert: both.clone(), key: both }
}

fn read(files: &CertificateFiles, is_own: bool) -> Result<Tls, TlsError> {
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
    let malformed = |error: x509_parser::error::X509Error| TlsError::Malformed(error.to_string());
    let alternatives = parsed.subject_alternative_name().map_err(malformed)?;
    let alternatives = alternatives.map(|extension| &extension.value.general_names);
    let names = alternatives.into_iter().flatten().filter_map(name_in).collect();
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
        certificate: Certificate { fingerprint, expires: UnixTime(expires), is_own, names },
    })
}

fn name_in(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            ip.ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn make(names: BTreeSet<String>, files: &CertificateFiles, now: UnixTime) -> Result<(), TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "groundswell coordinator");
    let date =
        |at: UnixTime| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(at.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const DAY_S: u64 = 86_400;

    /// A coordinator's configuration in a directory, with these lines besides.
    fn config(dir: &Path, lines: &str) -> Config {
        fs::create_dir_all(dir.join("state")).unwrap();
        let text = format!("state_dir = \"state\"\nbind = \"10.0.0.5:7070\"\n{lines}");
        Config::parse(&dir.join("coordinator.toml"), &text).unwrap()
    }

    #[test]
    fn it_is_made_anew_a_third_before_its_end_and_not_sooner() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "");
        let first = own(&config, NOW).unwrap();
        assert_eq!(first.certificate.expires, NOW.plus_s(LIFE_DAYS * DAY_S - 3_600));
        let due = UnixTime(first.certificate.expires.0 - LIFE_DAYS * DAY_S / 3);
        let kept = own(&config, UnixTime(due.0 - 1)).unwrap();
        assert_eq!(kept.certificate.fingerprint, first.certificate.fingerprint);
        let next = own(&config, due).unwrap();
        assert_ne!(next.certificate.fingerprint, first.certificate.fingerprint);
        assert_eq!(next.certificate.expires, due.plus_s(LIFE_DAYS * DAY_S - 3_600));
    }

    #[test]
    fn it_is_for_the_names_that_people_use_and_made_anew_when_these_change() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [
            ("", ["10.0.0.5", "localhost"].as_slice()),
            ("https_url = \"https://deploy.example.com\"", &["10.0.0.5", "deploy.example.com"]),
            ("https_url = \"https://deploy.example.com:8443\"", &["deploy.example.com"]),
            ("https_url = \"https://[2001:db8::7]\"", &["2001:db8::7"]),
            ("https_url = \"https://[2001:DB8:0::7]:8443\"", &["2001:db8::7"]),
            ("advertise = \"192.0.2.7:7070\"", &["192.0.2.7"]),
        ];
        let mut seen = Vec::new();
        for (lines, has) in cases {
            let config = config(dir.path(), lines);
            let tls = own(&config, NOW).unwrap();
            assert!(
                has.iter().all(|name| tls.certificate.names.contains(*name)),
                "{lines}: {:?}",
                tls.certificate.names
            );
            assert!(
                tls.certificate.names.iter().all(|name| name.len() > 1),
                "{lines}: {:?}",
                tls.certificate.names
            );
            assert_eq!(
                own(&config, NOW).unwrap().certificate.fingerprint,
                tls.certificate.fingerprint,
                "{lines}: kept"
            );
            seen.push((tls.certificate.names.clone(), tls.certificate.fingerprint));
        }
        // Where only the port is another one it is the same certificate.
        let differ = seen.windows(2).map(|two| two[0].1 != two[1].1);
        assert_eq!(differ.collect::<Vec<_>>(), [true, false, true, false, true]);
    }

    #[test]
    fn a_file_of_ours_that_does_not_do_is_made_anew_and_one_of_theirs_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let own_config = config(dir.path(), "");
        let pem = own_config.state_dir.join("https.pem");
        fs::write(&pem, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let good = own(&own_config, NOW).unwrap();
        let lines = "https_cert = \"web.pem\"\nhttps_key = \"web.key\"";
        let theirs = config(dir.path(), lines);
        let why = || {
            load(&theirs)
                .map(|tls| tls.certificate.fingerprint)
                .map_err(|error| member::chain(&error))
        };
        let (cert, key) = (dir.path().join("web.pem"), dir.path().join("web.key"));
        assert!(why().unwrap_err().contains("web.pem"));
        let both = fs::read(&pem).unwrap();
        fs::write(&cert, "nothing in it").unwrap();
        assert!(why().unwrap_err().contains("holds no certificate in PEM"));
        fs::write(&cert, &both).unwrap();
        assert!(why().is_err(), "the key is missing");
        durable::create_secret(&key, b"nothing in it").unwrap();
        assert!(why().unwrap_err().contains("holds no key in PEM"));
        fs::remove_file(&key).unwrap();
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        durable::create_secret(&key, other.serialize_pem().as_bytes()).unwrap();
        assert_eq!(
            why().unwrap_err().split(':').next(),
            Some("certificate and key of the pages do not fit")
        );
        fs::remove_file(&key).unwrap();
        durable::create_secret(&key, &both).unwrap();
        assert_eq!(why(), Ok(good.certificate.fingerprint));
    }
}
