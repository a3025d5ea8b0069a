//! A receiver: an HTTP server that keeps what it is sent and answers as a test tells it to; and an
//! office that tells it, until it is killed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coordinator::config::Config;
use coordinator::events::{Event, Kind};
use coordinator::notify::post::Post;
use coordinator::notify::{Context, Office};
use coordinator::store::Store;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use proto::id::Digest;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Far above what any step takes: it is there to end, not to measure.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// What was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// How it answers the request with this number, 0 first.
pub(crate) type Answers = fn(usize) -> Response<Full<Bytes>>;

pub(crate) fn status(code: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

pub(crate) fn takes(_: usize) -> Response<Full<Bytes>> {
    status(202, "ok")
}

/// It listens as long as it is there.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) sent: Arc<Mutex<Vec<Sent>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, kept.clone(), answers));
            }
        });
        Self { address, sent, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// As soon as it was sent so many.
    pub(crate) async fn wait(&self, count: usize) -> Vec<Sent> {
        let enough = async {
            while self.sent().len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(WITHIN, enough).await.is_err() {
            panic!("{} of {count} came: {:#?}", self.sent().len(), self.sent());
        }
        self.sent()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn serve<S>(stream: S, kept: Arc<Mutex<Vec<Sent>>>, answers: Answers)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(|request: Request<Incoming>| {
        let kept = kept.clone();
        async move {
            assert_eq!(request.method(), Method::POST);
            let (path, headers) = (request.uri().to_string(), request.headers().clone());
            let bytes = request.into_body().collect().await.unwrap().to_bytes().to_vec();
            let number = {
                let mut kept = kept.lock().unwrap();
                kept.push(Sent { path, headers, bytes });
                kept.len() - 1
            };
            Ok::<_, Infallible>(answers(number))
        }
    });
    // An error says that the other side has gone.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// A coordinator's notifications without the coordinator.
pub(crate) struct Telling {
    pub(crate) store: Store,
    pub(crate) office: Arc<Office>,
    newest: watch::Sender<u64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Telling {
    /// With the `[[notify]]` of this text; database and secrets are in `dir`.
    pub(crate) async fn start(dir: &Path, notify: &str) -> Self {
        Self::start_with(dir, notify, Post::new()).await
    }

    pub(crate) async fn start_with(dir: &Path, notify: &str, post: Post) -> Self {
        let text = format!("advertise = \"127.0.0.1:7070\"\n{notify}");
        let config = Config::parse(&dir.join("coordinator.toml"), &text).unwrap();
        let store = Store::open(&dir.join("coordinator.db")).await.unwrap();
        let context = Context {
            fleet: "shop-0123abcd".parse().unwrap(),
            dashboard: Some("https://deploy.example.com".to_owned()),
        };
        let office = Arc::new(Office::new(store.clone(), context, config.notify, post));
        let (newest, told) = watch::channel(0);
        let stop = CancellationToken::new();
        let run = office.clone().run(told, stop.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        let telling = Self { store, office, newest, stop, task };
        // Who is not known yet begins after what the test keeps.
        let known = async {
            while telling.store.receivers().await.unwrap().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(WITHIN, known).await.unwrap();
        telling
    }

    pub(crate) async fn keep(&self, events: &[Event]) {
        let last = self.store.events_keep(events).await.unwrap();
        self.newest.send_replace(last);
    }

    /// As SIGKILL: nothing comes to its end.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.store.close().await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(WITHIN, self.task).await.unwrap().unwrap();
        self.store.close().await;
    }

    /// As soon as the only receiver stands so.
    pub(crate) async fn until(&self, so: impl Fn(&coordinator::store::Tally) -> bool) {
        let wait = async {
            while !self.store.receivers().await.unwrap().iter().any(&so) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(WITHIN, wait).await.is_err() {
            panic!("{:?}", self.store.receivers().await.unwrap());
        }
    }
}

pub(crate) fn secret(dir: &Path, file: &str, text: &str) {
    durable::create_secret(&dir.join(file), text.as_bytes()).unwrap();
}

pub(crate) const SIGNING: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
pub(crate) const ROUTING: &str = "0123456789abcdef0123456789abcdef";

/// One of a rollout of `web` in `production`, of now.
pub(crate) fn event(rollout: &str, kind: Kind) -> Event {
    Event {
        at: member::clock::unix(),
        kind,
        service: Some("web".parse().unwrap()),
        env: Some("production".parse().unwrap()),
        rollout: Some(Digest::of(rollout.as_bytes())),
        host: None,
        text: format!("{rollout}: {kind}"),
        detail: serde_json::json!({}),
    }
}
