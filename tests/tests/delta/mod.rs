//! R28, with real processes: what travels is what changed.

use fleet_tests::cluster::{Behaviour, Cluster, wait_until};

use super::common::{all_serve, deploy_and_complete, fleet};

/// The number that follows `field=` in the line of a log that holds `what`, the last of those.
fn told(log: &str, what: &str, field: &str) -> Option<u64> {
    let line = log.lines().rfind(|line| line.contains(what))?;
    let (_, after) = line.split_once(&format!("{field}="))?;
    after.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

/// What does not compress: much of it under any name but `new`.
fn noise(name: &str) -> Vec<u8> {
    let mut noise = vec![0; if name == "new" { 5 << 20 } else { 16 << 20 }];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut noise);
    noise
}

fn wait_for_line(cluster: &Cluster, name: &str, what: &str) {
    wait_until(&format!("{name} says: {what}"), || {
        Ok(cluster.log(name).contains(what).then_some(()))
    })
    .unwrap();
}

#[test]
fn r28_only_what_changed_travels_and_every_host_can_give_all_of_it() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    wait_for_line(&cluster, "coordinator", "a patch is made");
    cluster.deploy("2.0.0").unwrap();
    cluster.complete("2.0.0", 2).unwrap();
    for host in ["host-1", "host-2", "host-3"] {
        let log = cluster.log(host);
        let fetched = told(&log, "staged by a patch", "fetched_bytes").unwrap();
        let whole = told(&log, "staged by a patch", "whole_bytes").unwrap();
        assert!(fetched * 20 < whole, "{host}: {fetched} of {whole} bytes");
        wait_for_line(&cluster, host, "packed again from its files, for others");
    }
    // A newcomer has nothing to patch, and the coordinator is gone: the hosts give it all of it.
    cluster.add_agents(1).unwrap();
    cluster.kill_coordinator().unwrap();
    all_serve(&cluster, "2.0.0");
    assert!(!cluster.log("host-4").contains("staged by a patch"));
}

#[test]
fn r28_files_that_are_installed_do_not_travel_without_a_patch_either() {
    let (directory, cluster) = fleet(2);
    // Of what is new and does not compress no patch is worth it.
    for (version, files) in [("1.0.0", &["bulk"][..]), ("2.0.0", &["bulk", "new"])] {
        let build = directory.path().join(format!("build-{version}"));
        std::fs::create_dir_all(&build).unwrap();
        files.iter().for_each(|file| std::fs::write(build.join(file), noise(file)).unwrap());
    }
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    wait_for_line(&cluster, "coordinator", "no patch is made");
    cluster.deploy("2.0.0").unwrap();
    cluster.complete("2.0.0", 2).unwrap();
    for host in ["host-1", "host-2"] {
        let (log, how) = (cluster.log(host), "staged beside what is installed");
        assert!(!log.contains("staged by a patch"), "{host}");
        let fetched = told(&log, how, "fetched_bytes").unwrap();
        let whole = told(&log, how, "whole_bytes").unwrap();
        assert!(fetched * 3 < whole, "{host}: {fetched} of {whole} bytes");
    }
}
