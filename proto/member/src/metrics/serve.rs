//! Giving the page to whoever asks on this machine: `GET /metrics`, one request a connection, few
//! connections at a time, each over soon.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

/// Connections at a time; others wait to be let in.
const CONNECTIONS_MAX: usize = 8;
/// Longest head of a request, in bytes: the least that hyper takes.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long a connection may last.
const WITHIN: Duration = Duration::from_secs(10);
/// How often a port that somebody else has is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(10);
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Makes the page; it may block.
type Make = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves what `make` makes at `address` until `stop`. A port that is not to be had is said, and tried
/// again: no daemon stops for want of a page.
pub async fn serve(address: SocketAddr, make: Make, stop: CancellationToken) {
    let served = async {
        let listener = listen(address).await;
        info!(%address, "metrics at /metrics");
        serve_on(listener, make, WITHIN).await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = served => {}
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !said => {
                error!(
                    %address, %error,
                    "no metrics: cannot listen where the configuration says; tried again every {} s",
                    AGAIN_EVERY.as_secs()
                );
                said = true;
            }
            Err(_) => {}
        }
        sleep(AGAIN_EVERY).await;
    }
}

async fn serve_on(listener: TcpListener, make: Make, within: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let make = make.clone();
                tokio::spawn(async move {
                    // Who asks nothing, or reads nothing, is hung up on.
                    if timeout(within, converse(stream, make)).await.is_err() {
                        debug!("a reader of metrics was too slow");
                    }
                    drop(place);
                });
            }
            // Out of file descriptors, say.
            Err(error) => {
                debug!(%error, "a reader of metrics is not let in");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, make: Make) {
    let service = service_fn(move |request| answer(request, make.clone()));
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(REQUEST_BYTES_MAX).timer(TokioTimer::new());
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "a reader of metrics asked in no proper way, or left");
    }
}

async fn answer(
    request: Request<Incoming>,
    make: Make,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match spawn_blocking(move || make()).await {
            Ok(page) => reply(StatusCode::OK, page),
            Err(error) => {
                error!(%error, "the page of metrics cannot be made");
                reply(StatusCode::INTERNAL_SERVER_ERROR, "no page\n".to_owned())
            }
        },
        (_, "/metrics") => {
            let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            refused
        }
        _ => reply(StatusCode::NOT_FOUND, "there is /metrics only\n".to_owned()),
    })
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, FORMAT);
    reply
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Longer than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(60);

    async fn page(within: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_on(listener, Arc::new(|| "up 1\n".to_owned()), within));
        address
    }

    /// All that comes back; the other side may hang up before it has read all.
    async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("it hangs up in the end");
        String::from_utf8_lossy(&answer).into_owned()
    }

    const GOOD: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";

    #[tokio::test]
    async fn one_page_and_nothing_else() {
        let address = page(DEADLINE).await;
        let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
        let cases: [(&[u8], &str); 9] = [
            (GOOD, "200"),
            (b"GET /metrics?format=x HTTP/1.0\r\n\r\n", "200"),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
            (b"GET /metrics/../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", "405"),
            (b"HEAD /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
            (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"),
            (b"GET /metrics HTTP/9.9\r\n\r\n", "400"),
            (long.as_bytes(), "431"),
        ];
        for (request, status) in cases {
            let answer = ask(address, request).await;
            let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
            assert!(answer.get(9..12) == Some(status), "{shown}: {answer}");
        }
        let answer = ask(address, GOOD).await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nup 1\n"), "{answer}");
    }

    /// Whatever comes in, the next one is answered.
    #[tokio::test]
    async fn no_request_does_harm() {
        let address = page(DEADLINE).await;
        let mut state = 11_u64;
        for _ in 0..200 {
            let mut request = GOOD.to_vec();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let [at, byte, ..] = state.to_be_bytes();
                let at = usize::from(at) % request.len();
                request[at] = byte;
            }
            // The end of a head, or it would be waited for.
            request.extend(b"\r\n\r\n");
            let _ = ask(address, &request).await;
        }
        assert!(ask(address, GOOD).await.ends_with("up 1\n"));
    }

    /// Those who hold all places and say nothing are hung up on, and others get in.
    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_out_for_long() {
        let address = page(Duration::from_millis(300)).await;
        let mut held = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address, GOOD).await.ends_with("up 1\n"));
        for mut one in held {
            let mut rest = Vec::new();
            let end = timeout(DEADLINE, one.read_to_end(&mut rest)).await.expect("hung up on");
            assert!(end.is_err() || rest.is_empty());
        }
    }

    #[tokio::test]
    async fn no_more_than_a_few_are_let_in_at_a_time() {
        let address = page(DEADLINE).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        // Were there a place, this would be answered as soon as the ones before were.
        let mut last = tokio::spawn(async move { ask(address, GOOD).await });
        assert!(timeout(Duration::from_millis(300), &mut last).await.is_err(), "one too many");
        held.pop();
        let answer = timeout(DEADLINE, last).await.unwrap().unwrap();
        assert!(answer.ends_with("up 1\n"));
    }
}
