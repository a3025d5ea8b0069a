//! Over TLS: whom the system does not trust is told nothing.

use std::sync::{Arc, Mutex};

use coordinator::events::Kind::RolloutComplete;
use coordinator::notify::post::Post;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::receiver::*;

/// A receiver on loopback with a certificate for this name; its port, what it is sent, and the
/// certificate, which nobody has signed but itself.
async fn start(name: &str) -> (u16, Arc<Mutex<Vec<Sent>>>, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key);
    let certificate = certificate.unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let kept = sent.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, kept) = (acceptor.clone(), kept.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, kept, takes).await;
                }
            });
        }
    });
    (port, sent, roots)
}

/// What came of one event sent to `https://localhost`.
async fn send(port: u16, post: Post) -> String {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "bot", SIGNING);
    let config = format!(
        "[[notify]]\nname = \"bot\"\nkind = \"webhook\"\nurl = \"https://localhost:{port}/\"\n\
         secret_file = \"bot\"\n"
    );
    let telling = Telling::start_with(dir.path(), &config, post).await;
    telling.keep(&[event("a", RolloutComplete)]).await;
    telling.until(|tally| tally.delivered == 1 || tally.fault.is_some()).await;
    let fault = telling.store.receivers().await.unwrap().remove(0).fault;
    telling.stop().await;
    fault.unwrap_or_else(|| "delivered".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_trusted_and_has_the_name_is_told() {
    let (port, sent, roots) = start("localhost").await;
    assert_eq!(send(port, Post::trusting(roots)).await, "delivered");
    assert_eq!(sent.lock().unwrap().len(), 1);

    let (port, sent, _) = start("localhost").await;
    let (_, _, others) = start("localhost").await;
    let told = send(port, Post::trusting(others)).await;
    assert!(told.starts_with("no TLS with it: ") && told.contains("certificate"), "{told}");
    assert!(sent.lock().unwrap().is_empty());

    let (port, sent, roots) = start("example.com").await;
    let told = send(port, Post::trusting(roots)).await;
    assert!(told.starts_with("no TLS with it: ") && told.contains("not valid for name"), "{told}");
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_system_trusts_is_trusted_and_nothing_else() {
    let (port, sent, _) = start("localhost").await;
    let told = send(port, Post::new()).await;
    // On a machine without any roots it is that which is told.
    let expected = ["no TLS with it: ", "this machine trusts no certificate authority"];
    assert!(expected.iter().any(|start| told.starts_with(start)), "{told}");
    assert!(sent.lock().unwrap().is_empty());
}
