//! The door: which connections come in, and how long one may stay that does nothing.
//!
//! Anybody may come as far as here. So nobody has more than a share of the places, from one address; and
//! whoever is in has deadlines for the handshake, the first request, the body of each, for taking what is
//! answered, and for the time between. An answer that goes on and on, as a stream of changes does, is
//! something under way for as long as its reader takes it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::Places;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tower::ServiceExt as _;
use tracing::debug;

use super::tls::Tls;

/// Connections at a time, and of these from one address.
const CONNECTIONS_MAX: usize = 512;
const PER_CALLER_MAX: usize = 64;
/// Requests of one connection that are under way at a time.
const REQUESTS_MAX: u32 = 32;
/// How much of bodies that nobody has read yet a connection may have sent, and of answers that it has not
/// taken yet, in bytes.
const WINDOW_BYTES: u32 = 64 << 10;
const ANSWERS_BYTES: usize = 64 << 10;
/// How long a handshake may take, and the head of a request; how soon the first request comes.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How soon the whole body of a request must have come.
const BODY_WITHIN: Duration = Duration::from_secs(20);
/// How soon the next part of an answer must be wanted, after one was given.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection may stay with nothing under way.
const IDLE_WITHIN: Duration = Duration::from_secs(60);
/// How often all that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where somebody comes from, as far as places and requests are counted: an address of IPv4, or a network
/// of 64 bits of IPv6, of which one person has all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Caller(IpAddr);

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Places for connections.
pub(super) fn places() -> Places<Caller> {
    Places::new(CONNECTIONS_MAX, PER_CALLER_MAX)
}

/// Speaks with a visitor until one of the two ends it.
pub(super) async fn converse(stream: TcpStream, caller: Caller, tls: &Tls, router: Router) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HELLO_WITHIN, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "no TLS"),
        Err(_) => return debug!("a visitor said nothing"),
    };
    // What was agreed upon, and no guess by what comes first: whoever says nothing has agreed, too.
    let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    serve(stream, speaks_h2, caller, router).await;
}

async fn serve<S>(stream: S, speaks_h2: bool, caller: Caller, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let course = Course::new(Instant::now());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, course) = (router.clone(), course.clone());
        async move { Ok::<_, Infallible>(answer(router, course, caller, request).await) }
    });
    let stream = TokioIo::new(stream);
    let served = async {
        match speaks_h2 {
            true => h2().serve_connection(stream, service).await,
            false => h1().serve_connection(stream, service).await,
        }
    };
    tokio::select! {
        served = served => if let Err(error) = served {
            debug!(%error, "a visitor left");
        },
        () = course.over() => debug!("a visitor does nothing"),
    }
}

fn h1() -> http1::Builder {
    let mut h1 = http1::Builder::new();
    h1.timer(TokioTimer::new()).header_read_timeout(HELLO_WITHIN).max_buf_size(ANSWERS_BYTES);
    h1
}

fn h2() -> http2::Builder<TokioExecutor> {
    let mut h2 = http2::Builder::new(TokioExecutor::new());
    h2.timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_send_buf_size(ANSWERS_BYTES)
        .keep_alive_interval(HELLO_WITHIN)
        .keep_alive_timeout(HELLO_WITHIN);
    h2
}

async fn answer(
    router: Router,
    course: Course,
    caller: Caller,
    request: hyper::Request<Incoming>,
) -> Response<Answer> {
    let under_way = course.begin();
    let mut request: Request = request.map(|body| Body::new(Asked::new(body)));
    request.extensions_mut().insert(caller);
    let Ok(response) = router.oneshot(request).await;
    response.map(|body| Answer::new(body, under_way))
}

// --- what goes on on a connection ---

/// What goes on on a connection, as far as it may stay for it. All clones are of one connection.
#[derive(Debug, Clone)]
struct Course(Arc<Mutex<Going>>);

#[derive(Debug)]
struct Going {
    /// Since when nothing is under way.
    idle_since: Instant,
    /// Requests so far.
    requests: u64,
    /// Those that are under way, and since when it is up to the reader to go on with the answer.
    under_way: BTreeMap<u64, Option<Instant>>,
}

impl Going {
    /// When it is over, should nothing happen until then; none: it is not up to the visitor.
    fn ends(&self) -> Option<Instant> {
        let idles = self.under_way.is_empty();
        let may_idle = if self.requests == 0 { HELLO_WITHIN } else { IDLE_WITHIN };
        let first = self.under_way.values().flatten().min().map(|since| *since + TAKEN_WITHIN);
        if idles { Some(self.idle_since + may_idle) } else { first }
    }
}

impl Course {
    fn new(now: Instant) -> Self {
        let going = Going { idle_since: now, requests: 0, under_way: BTreeMap::new() };
        Self(Arc::new(Mutex::new(going)))
    }

    fn going(&self) -> MutexGuard<'_, Going> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> UnderWay {
        let mut going = self.going();
        let number = going.requests;
        going.requests += 1;
        going.under_way.insert(number, None);
        UnderWay { course: self.clone(), number }
    }

    /// Once the visitor has done nothing for too long.
    async fn over(&self) {
        while self.going().ends().is_none_or(|ends| Instant::now() < ends) {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
struct UnderWay {
    course: Course,
    number: u64,
}

impl UnderWay {
    /// Whether it is up to the reader now to go on.
    fn up_to_reader(&self, is: bool) {
        let since = is.then(Instant::now);
        self.course.going().under_way.insert(self.number, since);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut going = self.course.going();
        going.under_way.remove(&self.number);
        going.idle_since = Instant::now();
    }
}

/// The body of an answer: tells when the next part of it is wanted.
struct Answer {
    body: Body,
    under_way: UnderWay,
}

impl Answer {
    fn new(body: Body, under_way: UnderWay) -> Self {
        under_way.up_to_reader(true);
        Self { body, under_way }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.under_way.up_to_reader(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request, which fails where it takes too long.
struct Asked {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
}

impl Asked {
    fn new(body: Incoming) -> Self {
        Self { body, deadline: Box::pin(sleep_until(Instant::now() + BODY_WITHIN)) }
    }
}

impl hyper::body::Body for Asked {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.deadline.as_mut().poll(cx));
        let late = format!("the body has not come within {} s", BODY_WITHIN.as_secs());
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, late).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use futures_util::stream;
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::http2 as client;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// As long as nobody would sit and wait.
    const LONG: Duration = Duration::from_secs(3_600);

    fn router() -> Router {
        let endless = || async {
            let parts = stream::unfold((), |()| async {
                Some((Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4_096])), ()))
            });
            Body::from_stream(parts)
        };
        let slow = || async {
            let parts = stream::unfold((), |()| async {
                sleep(Duration::from_secs(5)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b"beat")), ()))
            });
            Body::from_stream(parts)
        };
        Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/endless", get(endless))
            .route("/slow", get(slow))
            .route("/write", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
    }

    /// A connection to the door; it ends when the door ends it.
    fn connected(speaks_h2: bool) -> (DuplexStream, JoinHandle<Duration>) {
        let (ours, theirs) = duplex(1_024);
        let caller = Caller::from(IpAddr::from([10, 0, 0, 1]));
        let begin = Instant::now();
        let serving = tokio::spawn(async move {
            let served = timeout(LONG, serve(theirs, speaks_h2, caller, router())).await;
            served.map_or(LONG, |()| begin.elapsed())
        });
        (ours, serving)
    }

    async fn h2() -> (client::SendRequest<Empty<Bytes>>, JoinHandle<Duration>) {
        let (stream, serving) = connected(true);
        let connecting = client::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (send, connection) = connecting.await.unwrap();
        tokio::spawn(connection);
        (send, serving)
    }

    fn get_of(path: &str) -> hyper::Request<Empty<Bytes>> {
        let uri = format!("https://here{path}");
        hyper::Request::builder().uri(uri).body(Empty::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_does_not_stay() {
        for speaks_h2 in [false, true] {
            let (_stream, serving) = connected(speaks_h2);
            let stayed = serving.await.unwrap();
            assert!(stayed <= HELLO_WITHIN + LOOK_EVERY, "{stayed:?}, h2: {speaks_h2}");
        }
        // One that answers pings, and asks for nothing.
        let (_send, serving) = h2().await;
        let stayed = serving.await.unwrap();
        assert!(stayed <= HELLO_WITHIN + LOOK_EVERY, "{stayed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_may_ask_again_for_a_while() {
        let (mut send, serving) = h2().await;
        for _ in 0..5 {
            let answer = send.send_request(get_of("/")).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
            sleep(IDLE_WITHIN / 2).await;
        }
        let stayed = serving.await.unwrap();
        assert!(stayed <= IDLE_WITHIN * 3 + LOOK_EVERY, "{stayed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_ends() {
        let (stream, serving) = connected(false);
        let (mut read, mut write) = tokio::io::split(stream);
        let head = b"POST /write HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n";
        write.write_all(head).await.unwrap();
        let trickle = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(3)).await;
            }
        });
        let mut answer = String::new();
        read.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let stayed = serving.await.unwrap();
        assert!(stayed <= BODY_WITHIN + HELLO_WITHIN, "{stayed:?}");
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_ends_and_one_that_is_taken_goes_on() {
        let (mut stream, serving) = connected(false);
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        assert!(serving.await.unwrap() <= TAKEN_WITHIN + 2 * LOOK_EVERY);
        // It answers pings all the while.
        let (mut send, serving) = h2().await;
        let _answer = send.send_request(get_of("/endless")).await.unwrap();
        assert!(serving.await.unwrap() <= TAKEN_WITHIN + 2 * LOOK_EVERY);
        let (mut send, serving) = h2().await;
        let mut answer = send.send_request(get_of("/slow")).await.unwrap().into_body();
        for _ in 0..100 {
            assert!(answer.frame().await.is_some());
        }
        assert!(!serving.is_finished());
    }

    #[test]
    fn whoever_has_a_network_counts_as_one() {
        let caller = |text: &str| Caller::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:1:2:3"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
        assert_eq!(caller("::ffff:10.0.0.1"), caller("10.0.0.1"));
        assert_ne!(caller("10.0.0.1"), caller("10.0.0.2"));
    }
}
