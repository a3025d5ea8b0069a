//! What the daemons tell systemd, read by a socket in its place.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use fleet_tests::cluster::{Cluster, PATIENCE};

use crate::common::fleet;

/// The manager: what it was told and nobody has looked at yet.
struct Manager {
    socket: UnixDatagram,
    heard: VecDeque<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, heard: VecDeque::new() }
    }

    fn next(&mut self) -> String {
        while self.heard.is_empty() {
            let mut bytes = [0; 4_096];
            let length = self.socket.recv(&mut bytes).expect("a word within the time there is");
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.heard.extend(text.lines().map(str::to_owned));
        }
        self.heard.pop_front().unwrap()
    }

    /// Passes over everything up to a word that begins so. Other words keep coming: they are no reason
    /// to wait on.
    fn until(&mut self, start: &str) {
        let begun = Instant::now();
        let mut passed = Vec::new();
        while !passed.last().is_some_and(|word: &String| word.starts_with(start)) {
            assert!(begun.elapsed() < PATIENCE, "no {start:?} in {passed:?}");
            passed.push(self.next());
        }
    }
}

fn terminate(pid: u32) {
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_agent_says_that_it_serves_how_it_is_and_that_it_stops() {
    let (directory, mut cluster) = fleet(1);
    let path = directory.path().join("manager");
    let mut manager = Manager::listen(&path);
    cluster.tell_manager(&path);
    cluster.kill_agent(0).unwrap();
    cluster.start_agent(0).unwrap();
    assert_eq!(manager.next(), "READY=1", "its first word");
    manager.until("STATUS=fleet demo-");
    // One that its parts did not feed would be fed once, for their beginning.
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    manager.until(&format!("{}1 of 1 hosts heard, coordinator heard", status_start(&cluster)));
    terminate(cluster.agent_pid(0).unwrap());
    manager.until("STOPPING=1");
}

#[test]
fn a_coordinator_says_that_it_serves_how_it_is_and_that_it_stops() {
    let (directory, mut cluster) = fleet(1);
    let path = directory.path().join("manager");
    let mut manager = Manager::listen(&path);
    cluster.tell_manager(&path);
    cluster.kill_coordinator().unwrap();
    cluster.start_coordinator().unwrap();
    assert_eq!(manager.next(), "READY=1", "its first word");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    manager.until(&format!("{}1 of 1 hosts heard", status_start(&cluster)));
    terminate(cluster.coordinator_pid().unwrap());
    manager.until("STOPPING=1");
}

fn status_start(cluster: &Cluster) -> String {
    format!("STATUS=fleet {}: ", cluster.status().unwrap().fleet)
}
