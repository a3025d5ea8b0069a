//! The service as an agent runs it: start, ask, stop.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A release of the service on a port of its own.
struct Bench {
    dir: tempfile::TempDir,
    port: u16,
}

impl Bench {
    fn new(version: &str, behaviour: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["release/bin", "shared"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let release = dir.path().join("release");
        fs::copy(env!("CARGO_BIN_EXE_demo-service"), release.join("bin/demo-service")).unwrap();
        fs::write(release.join("VERSION"), format!("{version}\n")).unwrap();
        fs::write(release.join("BEHAVIOUR"), behaviour).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, port }
    }

    fn run(&self, command: &str) -> Output {
        Command::new(self.dir.path().join("release/bin/demo-service"))
            .arg(command)
            .env_clear()
            .env("LISTEN", format!("127.0.0.1:{}", self.port))
            .env("HOST", "alpha")
            .env("SWELL_SERVICE", "web")
            .env("SWELL_SHARED", self.dir.path().join("shared"))
            .output()
            .unwrap()
    }

    fn succeeds(&self, command: &str) {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", text(&output));
    }

    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn pid_file(&self) -> std::path::PathBuf {
        self.dir.path().join("shared/demo.pid")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.run("stop");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn started_asked_and_stopped() {
    let bench = Bench::new("1.2.3", "good");
    bench.succeeds("stop");
    bench.succeeds("start");
    let answer = bench.ask("/").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("{\"host\":\"alpha\",\"service\":\"web\",\"version\":\"1.2.3\"}\n"));
    assert!(bench.ask("/healthz").unwrap().starts_with("HTTP/1.1 200"));
    assert!(bench.ask("/other").unwrap().starts_with("HTTP/1.1 404"));
    let again = bench.run("start");
    assert!(text(&again).contains("it runs already, as process "), "{}", text(&again));
    bench.succeeds("stop");
    assert_eq!(bench.ask("/"), None);
    assert!(!bench.pid_file().exists());
    bench.succeeds("stop");
}

#[test]
fn a_broken_version_is_well_for_a_moment() {
    let bench = Bench::new("1", "broken");
    bench.succeeds("start");
    for path in ["/healthz", "/"] {
        wait_until("it breaks", || bench.ask(path).unwrap().starts_with("HTTP/1.1 500"));
    }
}

#[test]
fn a_flaky_version_fails_one_in_five_and_counts() {
    let bench = Bench::new("1", "flaky");
    bench.succeeds("start");
    let bad = |path: &str| bench.ask(path).unwrap().starts_with("HTTP/1.1 500");
    assert_eq!((0..60).filter(|_| bad("/")).count(), 12);
    assert!((0..20).all(|_| !bad("/healthz")));
    let page = bench.ask("/metrics").unwrap();
    assert!(page.contains("\nhttp_requests_total{code=\"200\"} 48\n"), "{page}");
    assert!(page.contains("\nhttp_requests_total{code=\"500\"} 12\n"), "{page}");
}

/// Asked now and then it is well; nothing else here asks so often.
#[test]
fn a_strained_version_fails_under_load_alone() {
    let bench = Bench::new("1", "strained");
    bench.succeeds("start");
    let bad = || bench.ask("/").unwrap().starts_with("HTTP/1.1 500");
    let within_a_second = || (0..330).filter(|_| bad()).count();
    // However slow this machine is, some of them come in seconds with more than twenty.
    wait_until("it fails", || within_a_second() > 0);
    let asked = |page: String| {
        let values = page.lines().filter(|line| line.starts_with("http_requests_total"));
        values.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).collect()
    };
    let counted: Vec<usize> = asked(bench.ask("/metrics").unwrap());
    assert!(counted[1] * 30 <= counted[0] + counted[1], "{counted:?}");

    let calm = Bench::new("1", "strained");
    calm.succeeds("start");
    for _ in 0..3 {
        assert!((0..17).all(|_| calm.ask("/").unwrap().starts_with("HTTP/1.1 200")));
        std::thread::sleep(Duration::from_millis(1_100));
    }
}

#[test]
fn a_slow_version_is_well_and_counts_how_long_it_takes() {
    let bench = Bench::new("1", "slow");
    bench.succeeds("start");
    assert!((0..10).all(|_| bench.ask("/").unwrap().starts_with("HTTP/1.1 200")));
    let page = bench.ask("/metrics").unwrap();
    let count = |le: &str| format!("\nhttp_request_duration_seconds_bucket{{le=\"{le}\"}}");
    assert!(page.contains(&format!("{} 0\n", count("0.01"))), "{page}");
    assert!(page.contains(&format!("{} 10\n", count("+Inf"))), "{page}");
    assert!(page.contains("\nhttp_request_duration_seconds_count 10\n"), "{page}");
}

#[test]
fn a_version_that_never_gets_ready_serves_all_the_same() {
    let bench = Bench::new("1", "unready");
    bench.succeeds("start");
    assert!(bench.ask("/").unwrap().starts_with("HTTP/1.1 200"));
    assert!(bench.ask("/healthz").unwrap().starts_with("HTTP/1.1 500"));
}

#[test]
fn what_does_not_start_says_why() {
    let bench = Bench::new("1", "crash");
    let output = bench.run("start");
    assert!(!output.status.success());
    assert!(text(&output).contains("this version crashes when it starts"), "{}", text(&output));

    let bench = Bench::new("1", "good");
    let _taken = TcpListener::bind(("127.0.0.1", bench.port)).unwrap();
    let output = bench.run("start");
    assert!(!output.status.success());
    assert!(text(&output).contains("cannot listen on 127.0.0.1:"), "{}", text(&output));

    let bench = Bench::new("1", "odd");
    assert!(text(&bench.run("start")).contains("BEHAVIOUR: unknown variant `odd`"));
}

/// It is there when the version before has just let go of the address.
#[test]
fn an_address_that_is_taken_for_a_moment() {
    let bench = Bench::new("1", "good");
    let taken = TcpListener::bind(("127.0.0.1", bench.port)).unwrap();
    std::thread::scope(|scope| {
        let start = scope.spawn(|| bench.succeeds("start"));
        // Long enough for it to find the address taken, most of the time.
        std::thread::sleep(Duration::from_millis(100));
        drop(taken);
        start.join().unwrap();
    });
    assert!(bench.ask("/healthz").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_stale_pid_file_stops_nobody() {
    let bench = Bench::new("1", "good");
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(bench.pid_file(), format!("{} 1\n", other.id())).unwrap();
    bench.succeeds("stop");
    assert!(other.try_wait().unwrap().is_none(), "another process has that id");
    fs::write(bench.pid_file(), "torn").unwrap();
    bench.succeeds("start");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn an_idle_connection_does_not_hold_it_up() {
    let bench = Bench::new("1", "good");
    bench.succeeds("start");
    let mut idle = TcpStream::connect(("127.0.0.1", bench.port)).unwrap();
    write!(idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 64];
    assert!(idle.read(&mut first).unwrap() > 0, "kept open by the client");
    bench.succeeds("stop");
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
}

/// What `start` leaves behind is in nobody's way: it holds no pipe and is in no session but its own.
#[test]
fn it_is_on_its_own() {
    let bench = Bench::new("1", "good");
    bench.succeeds("start");
    let text = fs::read_to_string(bench.pid_file()).unwrap();
    let id = text.split_whitespace().next().unwrap();
    let stat = fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!((fields[2], fields[3]), (id, id), "it leads its process group and its session");
}
