//! What an operator sees while an artifact comes to the hosts, and of a host that lies meanwhile.

mod liar;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use fleet_tests::cluster::{Behaviour, Cluster, PATIENCE, wait_until};
use proto::record::Lie;
use proto::report::{FetchReport, RolloutReport, StandingReport};

use crate::common::fleet;

/// What is published beside the demo service: it does not compress, and takes a slow seeder a while.
const BULK_BYTES: usize = 24 << 20;
/// What a slow seeder gives: all of it takes it the better part of a minute.
const SLOW_MBIT: u32 = 4;

/// Signs a first rollout of a version with [`BULK_BYTES`], of a seeder that is slow from now on.
fn deploy_slowly(cluster: &Cluster, directory: &Path) {
    let build = directory.join("build-1.0.0");
    std::fs::create_dir_all(&build).unwrap();
    let mut noise = vec![0; BULK_BYTES];
    blake3::Hasher::new().update(b"bulk").finalize_xof().fill(&mut noise);
    std::fs::write(build.join("bulk"), noise).unwrap();
    cluster.publish("1.0.0", Behaviour::Good).unwrap();
    cluster.seed_at_most(Some(SLOW_MBIT)).unwrap();
    // That took a while: who was started anew before it counts as silent no more.
    cluster.all_are_heard().unwrap();
    cluster.deploy("1.0.0").unwrap();
}

/// What the first agent tells with `command`.
fn ask(cluster: &Cluster, command: &[&str]) -> anyhow::Result<String> {
    let via = format!("{}:7070", cluster.agents()[0].address);
    let output = cluster.try_swell(&[command, &["--via", &via]].concat())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn explained(cluster: &Cluster) -> anyhow::Result<RolloutReport> {
    Ok(serde_json::from_str(&ask(cluster, &["explain", "web/production", "--json"])?)?)
}

/// A fetch in the middle of it.
fn is_seen(fetch: &FetchReport) -> bool {
    let came = fetch.from.peers + fetch.from.origin;
    fetch.running
        && (1..fetch.of_bytes).contains(&fetch.bytes)
        && fetch.bytes_per_s > 0
        && fetch.peers > 0
        && came > 0
        && fetch.of_bytes > BULK_BYTES as u64
}

#[test]
fn a_slow_fetch_is_seen_with_what_it_has_and_needs_how_fast_and_from_whom() {
    let (directory, mut cluster) = fleet(2);
    tell_metrics(&mut cluster);
    deploy_slowly(&cluster, directory.path());
    let fetches = |report: &RolloutReport, host: usize| {
        report.hosts[host].fetch.as_ref().is_some_and(is_seen)
    };
    let seen = wait_until("both fetches are explained", || {
        let report = explained(&cluster)?;
        Ok((fetches(&report, 0) && fetches(&report, 1)).then_some(report))
    })
    .unwrap();
    let sums = seen.fetches;
    let all = |part: fn(&FetchReport) -> u64| -> u64 {
        seen.hosts.iter().filter_map(|host| host.fetch.as_ref()).map(part).sum()
    };
    assert_eq!((sums.running, sums.whole), (2, 0));
    assert_eq!(sums.bytes, all(|fetch| fetch.bytes));
    assert_eq!(sums.bytes_per_s, all(|fetch| fetch.bytes_per_s));

    // All who look see it, as people and as scripts read it.
    let watched = ask(&cluster, &["watch", "web/production", "--json", "--timeout", "2s"]).unwrap();
    let looks: Vec<RolloutReport> =
        watched.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(looks.iter().any(|look| fetches(look, 0) || fetches(look, 1)), "{watched}");
    for command in [
        &["status"][..],
        &["explain", "web/production", "--host", "host-1"],
        &["watch", "web/production", "--timeout", "2s"],
    ] {
        let text = ask(&cluster, command).unwrap();
        assert!(text.contains("fetching: 2 hosts") && text.contains(" in all; "), "{text}");
    }
    let page = page_of(cluster.agents()[0].address);
    assert!(page.contains("\nswell_swarm_fetches 1\n"), "{page}");

    cluster.seed_at_most(None).unwrap();
    cluster.complete("1.0.0", 1).unwrap();
    its_end_is_told(&cluster);
}

/// Where all of it came from, afterwards.
fn its_end_is_told(cluster: &Cluster) {
    let ended = |host: &StandingReport| {
        let fetch = host.fetch.as_ref()?;
        let came = fetch.from.peers + fetch.from.origin;
        (!fetch.running && fetch.bytes == fetch.of_bytes && came >= fetch.bytes).then_some(came)
    };
    let report = wait_until("both have ended", || {
        let report = explained(cluster)?;
        Ok(report.hosts.iter().all(|host| ended(host).is_some()).then_some(report))
    })
    .unwrap();
    let text = ask(cluster, &["explain", "web/production"]).unwrap();
    assert!(text.contains("host-1: fetched ") && text.contains("origin "), "{text}");
    let own = report.hosts.iter().find(|host| host.name.as_str() == "host-1").unwrap();
    let from = own.fetch.as_ref().unwrap().from;
    let page = page_of(cluster.agents()[0].address);
    for line in [
        format!("swell_swarm_fetched_bytes_total{{source=\"origin\"}} {}", from.origin),
        format!("swell_swarm_fetched_bytes_total{{source=\"peers\"}} {}", from.peers),
        "swell_swarm_wrong_pieces_total 0".to_owned(),
        "swell_gossip_members{state=\"alive\"} 3".to_owned(),
        "swell_service_state{service=\"web\",state=\"committed\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|own| own == line), "{line} is not in\n{page}");
    }
}

/// Lets the first agent have a page of metrics.
fn tell_metrics(cluster: &mut Cluster) {
    let agent = &cluster.agents()[0];
    let config = cluster.state_dir(0).with_file_name("agent.toml");
    let metrics = format!("metrics = \"{}:7072\"\n", agent.address);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + &metrics).unwrap();
    cluster.kill_agent(0).unwrap();
    cluster.start_agent(0).unwrap();
    let page = || Ok(TcpStream::connect((cluster.agents()[0].address, 7072)).ok().map(drop));
    wait_until("it has a page", page).unwrap();
}

/// The agent's own page of metrics.
fn page_of(host: Ipv4Addr) -> String {
    let mut stream = TcpStream::connect((host, 7072)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// R4: a stolen host serves wrong bytes. Who asked it says so to the fleet, by name, and has the artifact
/// all the same.
#[test]
fn r4_a_host_that_serves_wrong_bytes_is_named_to_operators() {
    let (directory, mut cluster) = fleet(2);
    cluster.kill_agent(1).unwrap();
    let liar = liar::Liar::start(&cluster.state_dir(1), cluster.agents()[1].address);
    deploy_slowly(&cluster, directory.path());
    let named = wait_until("the liar is named", || {
        let report = explained(&cluster)?;
        let of_one = report.hosts.iter().find(|host| host.name.as_str() == "host-1");
        Ok(of_one.and_then(|host| host.fetch.clone()?.dropped.into_iter().next()))
    })
    .unwrap();
    assert_eq!((named.name.as_str(), named.why), ("host-2", Lie::WrongBytes));
    let text = ask(&cluster, &["explain", "web/production"]).unwrap();
    let line = format!("dropped host-2 ({}) by host-1: it sent wrong bytes", named.host);
    assert!(text.lines().any(|own| own == line), "{line} is not in {text}");
    cluster.seed_at_most(None).unwrap();
    wait_until("it has all of it from the seeder", || {
        Ok(explained(&cluster)?.hosts.iter().find_map(|host| {
            let fetch = host.fetch.as_ref()?;
            let whole = !fetch.running && fetch.bytes == fetch.of_bytes;
            (whole && fetch.from.peers == 0 && fetch.dropped.len() == 1).then_some(())
        }))
    })
    .unwrap();
    drop(liar);
}
