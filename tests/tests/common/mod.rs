//! What tests on real processes begin with.

use std::path::{Path, PathBuf};

use fleet_tests::cluster::{Behaviour, Cluster};

/// Where the daemons are: beside the directory of test executables.
fn binaries() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let directory = me.parent().and_then(|deps| deps.parent()).unwrap().to_owned();
    let there = directory.join("swell-agent").exists();
    assert!(there, "run `cargo build --workspace --bins` first, as scripts/test does");
    directory
}

pub(crate) fn fleet(agents: usize) -> (tempfile::TempDir, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&binaries(), directory.path()).unwrap();
    cluster.add_agents(agents).unwrap();
    all_are_heard(&cluster);
    (directory, cluster)
}

pub(crate) fn all_are_heard(cluster: &Cluster) {
    cluster.all_are_heard().unwrap();
}

pub(crate) fn all_serve(cluster: &Cluster, version: &str) {
    cluster.all_serve(version).unwrap_or_else(|error| panic!("{error:#}"));
}

pub(crate) fn deploy_and_complete(cluster: &Cluster, version: &str, epoch: u64) {
    cluster.publish(version, Behaviour::Good).unwrap();
    cluster.deploy(version).unwrap();
    cluster.complete(version, epoch).unwrap();
}

/// Gives an agent that does not run a certificate of 90 days that was issued so many days ago.
#[allow(dead_code, reason = "not every set of tests ages certificates")]
pub(crate) fn issued_days_ago(cluster: &Cluster, directory: &Path, index: usize, days: u64) {
    let state = cluster.state_dir(index);
    let joined = std::fs::read(state.join("joined.json")).unwrap();
    let joined: serde_json::Value = serde_json::from_slice(&joined).unwrap();
    let envelope = joined["host"].as_str().unwrap().as_bytes();
    let envelope = proto::dsse::Envelope::parse(envelope, envelope.len()).unwrap();
    let host: proto::statement::Host = serde_json::from_slice(envelope.payload()).unwrap();
    let ca = std::fs::read(directory.join("operator/coordinator/host-ca.key")).unwrap();
    let ca = proto::key::secret_from_text(&ca).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let issued = proto::UnixTime(now - days * 86_400);
    let old = net::certificate::issue(&ca, &host, issued, 90).unwrap();
    std::fs::write(state.join("host.crt"), old).unwrap();
}
