//! The check against servers that say exactly what a row wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";

/// Answers the first connection with the first of `answers`, and so on; the last one for ever.
/// `None`: takes the connection and says nothing.
async fn serve(answers: Vec<Option<String>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let index = count.fetch_add(1, Ordering::SeqCst);
            match &answers[index.min(answers.len() - 1)] {
                None => silent.push(stream),
                Some(answer) => {
                    let _ = stream.read(&mut [0; 1_024]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }
    });
    (address, asked)
}

fn check(address: SocketAddr, failures_max: u32) -> Check {
    Check {
        probe: Probe::Http(format!("http://{address}/healthz").parse().unwrap()),
        ready_timeout: Duration::from_secs(1),
        interval: Duration::from_millis(5),
        timeout: Duration::from_secs(5),
        failures_max,
    }
}

fn answers(answers: &[&str]) -> Vec<Option<String>> {
    answers.iter().map(|answer| Some((*answer).to_owned())).collect()
}

#[tokio::test]
async fn what_counts_as_a_good_answer() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let cases: [(&str, &str, Result<(), &str>); 9] = [
        ("200", GOOD, Ok(())),
        ("204", "HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
        ("200 up to the end", "HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok(())),
        ("500", BAD, Err("500")),
        (
            "a redirect",
            "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            Err("302"),
        ),
        ("an endless body", &long, Err("a body of more than 65536 bytes")),
        (
            "a body that breaks off",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            Err("the answer breaks off"),
        ),
        ("nothing", "", Err("no HTTP answer")),
        ("not HTTP", "hello?\r\n\r\n", Err("no HTTP answer")),
    ];
    for (case, answer, expected) in cases {
        let (address, _) = serve(answers(&[answer])).await;
        let got = ask(&check(address, 1)).await;
        match expected {
            Ok(()) => assert_eq!(got, Ok(()), "{case}"),
            Err(expected) => {
                let got = got.expect_err(case);
                assert!(got.contains(expected), "{case}: {got}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(ask(&check(closed, 1)).await, Err("connection refused".to_owned()));
    let (silent, _) = serve(vec![None]).await;
    let mut check = check(silent, 1);
    check.timeout = Duration::from_millis(50);
    assert_eq!(ask(&check).await, Err("no answer within 50 ms".to_owned()));
}

#[tokio::test]
async fn ready_with_the_first_good_answer() {
    let (address, asked) = serve(answers(&[BAD, BAD, GOOD, BAD])).await;
    assert_eq!(wait_ready(&[check(address, 1)], &Trail::default()).await, Ok(()));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn never_ready_says_how_it_ended() {
    let (address, _) = serve(answers(&[BAD])).await;
    let expected = "/healthz: not ready within 1 s: 500".to_owned();
    assert_eq!(wait_ready(&[check(address, 1)], &Trail::default()).await, Err(expected));
    // One that never answers is cut short by the end of the wait, not by its own longer timeout.
    let (silent, _) = serve(vec![None]).await;
    assert!(
        wait_ready(&[check(silent, 1)], &Trail::default())
            .await
            .unwrap_err()
            .contains("not ready within 1 s")
    );
}

#[tokio::test]
async fn only_bad_answers_in_a_row_count() {
    let script = answers(&[BAD, BAD, GOOD, BAD, BAD, GOOD, BAD, BAD, BAD]);
    let (address, asked) = serve(script).await;
    let trail = Trail::default();
    let note = watch(&[check(address, 3)], &trail, &CancellationToken::new()).await;
    assert_eq!(note, Some("/healthz: 500 three times in a row".to_owned()));
    assert_eq!(asked.load(Ordering::SeqCst), 9, "a good answer clears the count");
    let seen: Vec<_> = trail.read().1.into_iter().map(|one| (one.text, one.times)).collect();
    let [bad, well] = ["/healthz: 500", "/healthz: well"].map(str::to_owned);
    let expected = [(&bad, 2), (&well, 1), (&bad, 2), (&well, 1), (&bad, 3)];
    assert_eq!(seen, expected.map(|(text, times)| (text.clone(), times)));
}

#[tokio::test]
async fn the_first_is_enough_where_one_is_allowed() {
    let (address, _) = serve(answers(&[GOOD, BAD])).await;
    let trail = Trail::default();
    let note = watch(&[check(address, 1)], &trail, &CancellationToken::new()).await;
    assert_eq!(note, Some("/healthz: 500".to_owned()));
}

#[tokio::test]
async fn a_watch_ends_when_asked_to() {
    let (silent, _) = serve(vec![None]).await;
    let stop = CancellationToken::new();
    let watched = tokio::spawn({
        let stop = stop.clone();
        async move { watch(&[check(silent, 1)], &Trail::default(), &stop).await }
    });
    stop.cancel();
    assert_eq!(watched.await.unwrap(), None, "also in the middle of a question");
}

/// Others are given less meanwhile.
#[tokio::test]
async fn r29_a_bad_answer_is_trouble_until_a_good_one_or_the_end() {
    let (address, _) = serve(answers(&[GOOD, BAD, GOOD])).await;
    let trail = Trail::default();
    let mut ailing = trail.ailing();
    assert_eq!(*ailing.borrow(), 0);
    let watched = trail.clone();
    let watching = tokio::spawn(async move {
        watch(&[check(address, 3)], &watched, &CancellationToken::new()).await
    });
    let mut becomes = async |count| {
        let becomes = ailing.wait_for(|ailing| *ailing == count);
        timeout(Duration::from_secs(60), becomes).await.expect("it is told").unwrap();
    };
    becomes(1).await;
    becomes(0).await;
    watching.abort();
    let (address, _) = serve(answers(&[BAD])).await;
    assert!(watch(&[check(address, 2)], &trail, &CancellationToken::new()).await.is_some());
    assert_eq!(*ailing.borrow(), 0, "it goes back now");
}

fn script(text: &str) -> Check {
    let variables = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let health = Health {
        ready_timeout_s: 1,
        interval_ms: 5,
        timeout_ms: 20_000,
        failures_max: 2,
        ..Health::default()
    };
    let (text, directory) = (text.to_owned(), std::env::temp_dir());
    let mask = crate::services::Mask::default();
    Check::command(&health, Script { text, directory, variables, user: None, mask })
}

#[tokio::test]
async fn a_command_is_asked_beside_a_url_and_either_fails_both() {
    let (well, _) = serve(answers(&[GOOD])).await;
    let trail = Trail::default();
    assert_eq!(wait_ready(&[check(well, 1), script("true")], &trail).await, Ok(()));
    let error = wait_ready(&[check(well, 1), script("echo full; exit 3")], &trail).await;
    let expected = "health.command: not ready within 1 s: exited 3: full";
    assert_eq!(error, Err(expected.to_owned()));

    let stop = CancellationToken::new();
    let note = watch(&[check(well, 1), script("echo full; exit 3")], &trail, &stop).await;
    assert_eq!(note, Some("health.command: exited 3: full twice in a row".to_owned()));
    let (bad, _) = serve(answers(&[BAD])).await;
    let note = watch(&[check(bad, 1), script("true")], &trail, &stop).await;
    assert_eq!(note, Some("/healthz: 500".to_owned()));
    let slow = Check { timeout: Duration::from_millis(50), ..script("sleep 600") };
    let note = watch(&[slow], &trail, &stop).await;
    assert_eq!(note, Some("health.command: no answer within 50 ms twice in a row".to_owned()));
    stop.cancel();
    assert_eq!(watch(&[check(bad, 1), script("exit 1")], &trail, &stop).await, None);
    assert_eq!(watch(&[], &trail, &stop).await, None);
}

#[test]
fn counts_in_words() {
    let expected = ["", " twice in a row", " three times in a row", " eight times in a row"];
    assert_eq!([1, 2, 3, 8].map(times), expected);
    assert_eq!(times(9), " 9 times in a row");
}
