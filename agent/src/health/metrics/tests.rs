//! The page against servers that answer as no page should: the agent reads on, and counts nothing.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const COUNTERS: &str =
    "http_requests_total{code=\"200\"} 90\nhttp_requests_total{code=\"500\"} 10\n";

/// What a server does once it was asked.
#[derive(Debug, Clone)]
enum Answer {
    Says(Vec<u8>),
    /// Says that, and holds the connection open.
    Stalls(Vec<u8>),
    /// Says the first, and then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
}

async fn serve(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(say(stream, answer.clone()));
        }
    });
    address
}

async fn say(mut stream: TcpStream, answer: Answer) {
    let _ = stream.read(&mut [0; 1_024]).await;
    match answer {
        Answer::Says(text) => {
            let _ = stream.write_all(&text).await;
        }
        Answer::Stalls(text) => {
            let _ = stream.write_all(&text).await;
            std::future::pending::<()>().await;
        }
        Answer::Endless(head, rest) => {
            let _ = stream.write_all(&head).await;
            // Until the reader has had enough of it.
            while stream.write_all(&rest).await.is_ok() {}
        }
    }
}

fn page(address: SocketAddr) -> Page {
    let [requests, errors, latency] =
        ["http_requests_total", r#"http_requests_total{code=~"5.."}"#, "seconds"]
            .map(|text| Selector::parse(text).unwrap());
    Page {
        uri: format!("http://{address}/metrics").parse().unwrap(),
        counters: Counters { requests, errors, latency },
        window: Duration::from_secs(30),
    }
}

async fn read(answer: Answer) -> Option<(f64, f64)> {
    let reading = page(serve(answer).await).read().await;
    reading.map(|reading| (reading.requests, reading.errors))
}

fn whole(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A body that ends with its connection: nobody can tell that it is whole.
fn until_the_end(body: &str) -> Vec<u8> {
    format!("HTTP/1.0 200 OK\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn r24_what_a_page_says_and_what_is_no_page() {
    let long = "x".repeat(PAGE_BYTES_MAX).into_bytes();
    let cut_off = COUNTERS.len() - 30;
    let strange =
        [b"http_requests_total{path=\"\xff\xfe\"} 5\n# \xc3\x28\n", COUNTERS.as_bytes()].concat();
    let rows = [
        ("a page", whole("200 OK", COUNTERS.as_bytes()), Some((100.0, 10.0))),
        ("one that ends with its connection", until_the_end(COUNTERS), Some((100.0, 10.0))),
        ("bytes that are no text", whole("200 OK", &strange), Some((105.0, 10.0))),
        ("not found", whole("404 Not Found", COUNTERS.as_bytes()), None),
        ("an error", whole("500 Oh", COUNTERS.as_bytes()), None),
        ("nothing", whole("200 OK", b""), None),
        ("no counters", whole("200 OK", b"up 1\n"), None),
        ("a closed connection", Vec::new(), None),
        ("not HTTP", b"hello?\r\n\r\n".to_vec(), None),
        ("longer than a page may be", whole("200 OK", &long), None),
        (
            "less than it says it is",
            format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{COUNTERS}").into_bytes(),
            None,
        ),
        ("cut off in the middle of a line", until_the_end(&COUNTERS[..cut_off]), None),
        (
            "a chunk that never comes",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nup".to_vec(),
            None,
        ),
    ];
    for (name, answer, expected) in rows {
        assert_eq!(read(Answer::Says(answer)).await, expected, "{name}");
    }
}

#[tokio::test]
async fn r24_nobody_there_is_no_page() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(page(closed).read().await, None);
}

/// Reading ends, whatever the other side does: in time, and before the memory does.
#[tokio::test]
async fn r24_a_page_that_never_ends_is_no_page() {
    let says = |text: &str| text.as_bytes().to_vec();
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let rows = [
        ("no answer", Answer::Stalls(Vec::new())),
        ("half a head", Answer::Stalls(says("HTTP/1.1 200 OK\r\ncont"))),
        ("half a body", Answer::Stalls(says(&format!("{head}{COUNTERS}")))),
        ("no end of chunks", Answer::Endless(says(chunked), says("5\r\nup 1\n\r\n"))),
        ("no end at all", Answer::Endless(says("HTTP/1.0 200 OK\r\n\r\n"), says(COUNTERS))),
        ("no end of headers", Answer::Endless(says("HTTP/1.1 200 OK\r\n"), says("a: b\r\n"))),
    ];
    let reads = rows.map(|(name, answer)| async move { (name, read(answer).await) });
    for (name, reading) in futures_of(reads).await {
        assert_eq!(reading, None, "{name}");
    }
}

/// All of them at once: each may take as long as a page may.
async fn futures_of<F: Future<Output = T> + Send + 'static, T: Send + 'static>(
    futures: impl IntoIterator<Item = F>,
) -> Vec<T> {
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}
