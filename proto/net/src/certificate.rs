//! X.509 certificates of hosts: issue, read, when to renew (R9).
//!
//! Only what TLS needs. A certificate is issued by a host-CA key of the root for a host's public key,
//! and its one DNS name is `<host id>.host.groundswell.invalid`; there is no CA certificate, the key
//! in the root is the anchor. Everything a certificate says beyond that is ignored or refused.

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use proto::key::Signature;
use proto::statement::Host;
use proto::{HostId, PublicKey, UnixTime};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, Issuer, PKCS_ED25519, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm,
};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Longest certificate that is parsed, in bytes; one of ours has about 300.
const CERTIFICATE_BYTES_MAX: usize = 2_048;
/// What certificates of hosts call their issuer.
const ISSUER: &str = "groundswell host ca";
/// End of the DNS name of a host; `.invalid` is reserved, so no resolver ever answers for it.
const NAME_SUFFIX: &str = ".host.groundswell.invalid";
/// The last second of the year 9999, the last that X.509 can write.
const DATE_MAX_S: u64 = 253_402_300_799;
/// Life of a host's certificate, in days.
pub const LIFE_DAYS: u32 = 90;

/// Why bytes are no certificate of the form this fleet uses, or none can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate has {got} bytes, at most {CERTIFICATE_BYTES_MAX} are read")]
    TooLong { got: usize },
    #[error("the certificate is malformed")]
    Malformed,
    #[error("the certificate's key is not a usable ed25519 key")]
    Key,
    #[error("the certificate does not name exactly the host of its key")]
    Name,
    #[error("the certificate's dates are out of range")]
    Dates,
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// What a host's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub host: HostId,
    pub key: PublicKey,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

/// A certificate, DER, for `host`, good from `now` for `life_days` days.
///
/// # Errors
///
/// [`CertificateError::Dates`], for a time that X.509 cannot write.
pub fn issue(
    host_ca: &SigningKey,
    host: &Host,
    now: UnixTime,
    life_days: u32,
) -> Result<Vec<u8>, CertificateError> {
    let mut params = params(&host.id.to_string(), &host.key, now)?;
    let end = now.plus_s(u64::from(life_days) * 86_400);
    if end.0 > DATE_MAX_S {
        return Err(CertificateError::Dates);
    }
    let date = |at: UnixTime| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.0);
    (params.not_before, params.not_after) = (date(now), date(end));
    let name = format!("{}{NAME_SUFFIX}", host.id);
    let name = name.try_into().map_err(|error: rcgen::Error| make_error(&error))?;
    params.subject_alt_names = vec![SanType::DnsName(name)];
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = common_name(ISSUER);
    let issuer = Issuer::new(issuer, Pair(host_ca, PublicKey::of(host_ca)));
    let certificate =
        params.signed_by(&Public(host.key), &issuer).map_err(|error| make_error(&error))?;
    Ok(certificate.der().to_vec())
}

/// A certificate that only carries a key of the root; what it says beyond that is never read.
pub(crate) fn self_signed(key: &SigningKey) -> Result<Vec<u8>, CertificateError> {
    let public = PublicKey::of(key);
    let params = params("groundswell", &public, UnixTime(0))?;
    let certificate = params.self_signed(&Pair(key, public)).map_err(|error| make_error(&error))?;
    Ok(certificate.der().to_vec())
}

/// What a host's certificate says. Whether a host CA of the root issued it is another question.
///
/// # Errors
///
/// [`CertificateError`]: not a certificate of the form [`issue`] makes.
pub fn facts(der: &[u8]) -> Result<Facts, CertificateError> {
    let certificate = parse(der)?;
    let key = ed25519_key(&certificate)?;
    let host = HostId::of(&key);
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| CertificateError::Name)?
        .ok_or(CertificateError::Name)?;
    let [GeneralName::DNSName(name)] = names.value.general_names[..] else {
        return Err(CertificateError::Name);
    };
    if name.strip_suffix(NAME_SUFFIX) != Some(host.as_str()) || certificate.is_ca() {
        return Err(CertificateError::Name);
    }
    let time = |at: i64| u64::try_from(at).map(UnixTime).map_err(|_| CertificateError::Dates);
    let not_before = time(certificate.validity().not_before.timestamp())?;
    let not_after = time(certificate.validity().not_after.timestamp())?;
    match not_before < not_after {
        true => Ok(Facts { host, key, not_before, not_after }),
        false => Err(CertificateError::Dates),
    }
}

/// When to renew: from a third of the certificate's life on, spread by host id over the sixth after
/// it, so that hosts that joined together do not renew together.
pub fn renew_at(facts: &Facts) -> UnixTime {
    let life_s = facts.not_after.0 - facts.not_before.0;
    let hash = blake3::hash(facts.host.as_str().as_bytes());
    let seed = u64::from(u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]));
    facts.not_before.plus_s(life_s / 3 + (life_s / 6).saturating_mul(seed) / 65_536)
}

/// The ed25519 key a certificate carries.
pub(crate) fn key_in(der: &[u8]) -> Result<PublicKey, CertificateError> {
    ed25519_key(&parse(der)?)
}

/// Whether the holder of `ca` signed the certificate.
pub(crate) fn issued_by(der: &[u8], ca: &PublicKey) -> bool {
    let Ok(certificate) = parse(der) else { return false };
    let ed25519 = [&certificate.signature_algorithm, &certificate.tbs_certificate.signature]
        .iter()
        .all(|algorithm| algorithm.algorithm == OID_SIG_ED25519);
    let signature: Result<&[u8; 64], _> = certificate.signature_value.data.as_ref().try_into();
    let signed = certificate.tbs_certificate.as_ref();
    ed25519 && signature.is_ok_and(|bytes| ca.verifies(signed, &Signature::from_bytes(bytes)))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::TooLong { got: der.len() });
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

fn ed25519_key(certificate: &X509Certificate<'_>) -> Result<PublicKey, CertificateError> {
    let spki = certificate.public_key();
    if spki.algorithm.algorithm != OID_SIG_ED25519 {
        return Err(CertificateError::Key);
    }
    let bytes: &[u8; 32] =
        spki.subject_public_key.data.as_ref().try_into().map_err(|_| CertificateError::Key)?;
    PublicKey::from_bytes(bytes).ok_or(CertificateError::Key)
}

fn params(
    name: &str,
    key: &PublicKey,
    now: UnixTime,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(vec![]).map_err(|error| make_error(&error))?;
    params.distinguished_name = common_name(name);
    // Unlike a random serial this needs no entropy, and like one it differs between renewals.
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes()).update(&now.0.to_be_bytes());
    let mut serial = hasher.finalize().as_bytes()[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial));
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn make_error(error: &rcgen::Error) -> CertificateError {
    CertificateError::Make(error.to_string())
}

/// A public key, as rcgen wants it.
struct Public(PublicKey);

/// A signing key, as rcgen wants it: the secret never leaves it.
struct Pair<'a>(&'a SigningKey, PublicKey);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl PublicKeyData for Pair<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.1.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for Pair<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}
