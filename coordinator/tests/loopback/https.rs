//! A visitor of the coordinator's HTTPS port, that trusts the certificate which that made for itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Request, StatusCode, client};
use hyper_util::rt::TokioIo;
use proto::access::{AccessKind, AccessRole};
use proto::wire::{ControlReply, ControlRequest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::{Client, Fleet, WITHIN};

/// Requests that come from one address: fewer than the gate lets through at once.
const PER_ADDRESS: u32 = 50;

/// Whoever opens pages or calls the interface.
pub(crate) struct Visitor {
    address: SocketAddr,
    tls: TlsConnector,
    /// Requests made so far.
    made: AtomicU32,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Visitor {
    pub(crate) async fn of(fleet: &Fleet) -> Self {
        let pem = loop {
            match std::fs::read(fleet.state("https.pem")) {
                Ok(pem) if !pem.is_empty() => break pem,
                // It is made a moment after the start.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Self { address: fleet.config.https, tls, made: AtomicU32::new(0) }
    }

    /// What pages and their forms say they come from.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Got {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let last = u8::try_from(made / PER_ADDRESS + 1).unwrap();
        self.send_from(Ipv4Addr::new(127, 0, 0, last), method, path, headers, body).await
    }

    /// The same, from an address of this machine.
    pub(crate) async fn send_from(
        &self,
        from: Ipv4Addr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Got {
        let stream = self.connect(from).await;
        let (mut send, connection) =
            client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let answer = tokio::time::timeout(WITHIN, send.send_request(request)).await;
        let (parts, body) = answer.unwrap().unwrap().into_parts();
        let body = tokio::time::timeout(WITHIN, body.collect()).await;
        let body = body.unwrap().unwrap().to_bytes();
        Got { status: parts.status, headers: parts.headers, body }
    }

    /// Asks for a page's changes, which go on coming: the status, and the rest to read.
    pub(crate) async fn follow(
        &self,
        from: Ipv4Addr,
        path: &str,
        cookie: &str,
    ) -> (StatusCode, HeaderMap, Incoming) {
        let stream = self.connect(from).await;
        let (mut send, connection) =
            client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().uri(path).header("host", self.address.to_string());
        let request = request.header("cookie", cookie).body(Full::<Bytes>::default()).unwrap();
        let answer = tokio::time::timeout(WITHIN, send.send_request(request)).await;
        let (parts, body) = answer.unwrap().unwrap().into_parts();
        (parts.status, parts.headers, body)
    }

    /// A connection from an address of this machine that says nothing more than TLS; none: it is not
    /// let in.
    pub(crate) async fn silent(&self, from: Ipv4Addr) -> Option<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(self.address).await.ok()?;
        let name = ServerName::IpAddress(self.address.ip().into());
        self.tls.connect(name, stream).await.ok()
    }

    async fn connect(&self, from: Ipv4Addr) -> TlsStream<TcpStream> {
        let connecting = async {
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((from, 0).into()).unwrap();
                match socket.connect(self.address).await {
                    Ok(stream) => break stream,
                    // The port is opened a moment after the start.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let stream = tokio::time::timeout(WITHIN, connecting).await.unwrap();
        let name = ServerName::IpAddress(self.address.ip().into());
        self.tls.connect(name, stream).await.unwrap()
    }

    /// A `GET` with a token.
    pub(crate) async fn get(&self, token: &str, path: &str) -> Got {
        self.send("GET", path, &[(AUTHORIZATION.as_str(), &bearer(token))], b"").await
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A token of whoever this is, and its id.
pub(crate) async fn token(of: &Client, role: AccessRole) -> (String, String) {
    given(of, AccessKind::Token, role).await
}

/// The secret of a link for whoever this is.
pub(crate) async fn link(of: &Client, role: AccessRole) -> String {
    let (_, link) = given(of, AccessKind::Link, role).await;
    link.split_once("link=").unwrap().1.to_owned()
}

/// A session of whoever this is: the cookie, as it is sent.
pub(crate) async fn session(visitor: &Visitor, of: &Client, role: AccessRole) -> String {
    let link = link(of, role).await;
    let headers = [
        ("origin", visitor.origin()),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
    ];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let entered = visitor.send("POST", "/enter", &headers, format!("link={link}").as_bytes()).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
    entered.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn given(of: &Client, kind: AccessKind, role: AccessRole) -> (String, String) {
    match of.ask(&ControlRequest::AccessCreate { kind, role, ttl_s: 3_600 }).await {
        ControlReply::Access { id, text, .. } => (id, text),
        other => panic!("{other:?}"),
    }
}
