//! The audit record of a fleet of real processes: rewritten, added to from afar, begun anew.

use std::path::Path;
use std::process::Output;

use coordinator::audit::{Act, Entry, Head};
use coordinator::store::Store;
use fleet_tests::cluster::{Cluster, wait_until};
use tokio::runtime::Runtime;

use crate::common::{deploy_and_complete, fleet};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `swell` ends with this code and says this.
fn told(cluster: &Cluster, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let mut last = String::new();
    let waited = wait_until(&format!("{arguments:?} says {parts:?}"), || {
        let output = cluster.try_swell(arguments)?;
        last = text(&output);
        let said = parts.iter().all(|part| last.contains(part));
        Ok((output.status.code() == Some(code) && said).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{last}"));
    last
}

/// Changes an entry and hashes all behind it anew, as somebody can who may write to the database.
fn tamper(database: &Path, seq: u64) {
    Runtime::new().unwrap().block_on(async {
        let store = Store::open(database).await.unwrap();
        let entries = store.audit_after(0, 1_000).await.unwrap();
        store.close().await;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let unlock = "DROP TRIGGER audit_is_never_updated; DROP TRIGGER audit_is_never_deleted;
            DELETE FROM audit;";
        sqlx::raw_sql(unlock).execute(&pool).await.unwrap();
        let mut head = Head::EMPTY;
        for entry in entries {
            let act = Act {
                actor: if entry.seq == seq { "eve".to_owned() } else { entry.actor },
                action: entry.action.leak(),
                subject: entry.subject,
                detail: serde_json::from_str(&entry.detail).unwrap(),
            };
            let anew = Entry::after(head, entry.at, act);
            head = Head { length: anew.seq, hash: anew.hash };
            sqlx::query("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
                .bind(i64::try_from(anew.seq).unwrap())
                .bind(i64::try_from(anew.at.0).unwrap())
                .bind(anew.actor)
                .bind(anew.action)
                .bind(anew.subject)
                .bind(anew.detail)
                .bind(anew.prev.as_bytes().to_vec())
                .bind(anew.hash.as_bytes().to_vec())
                .execute(&pool)
                .await
                .unwrap();
        }
        sqlx::query("UPDATE audit_head SET length = ?1, hash = ?2")
            .bind(i64::try_from(head.length).unwrap())
            .bind(head.hash.as_bytes().to_vec())
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    });
}

#[test]
fn r30_a_record_that_was_rewritten_is_found_by_what_hosts_remember() {
    let (_directory, mut cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    let log = told(&cluster, &["audit"], 0, &["web/production -> 1.0.0", "publish"]);
    let length = log.lines().count() - 1;
    let up_to = format!("up to entry {length} as remembered by host-1, host-2");
    told(&cluster, &["audit", "--verify"], 0, &["are what was written", &up_to]);

    cluster.kill_coordinator().unwrap();
    let publish = log.lines().find(|line| line.contains(" publish ")).unwrap();
    let publish: u64 = publish.split(' ').next().unwrap().parse().unwrap();
    tamper(&cluster.coordinator_state().join("coordinator.db"), publish);
    cluster.start_coordinator().unwrap();
    // Its own chain stands: nothing that the coordinator has shows it.
    wait_until("the coordinator finds nothing", || {
        let verified = cluster.log("coordinator").matches("audit record verified").count();
        Ok((verified == 2).then_some(()))
    })
    .unwrap();
    let verdict = told(&cluster, &["audit", "--verify"], 1, &["hashed anew", "host-1", "host-2"]);
    let place = verdict.lines().find(|line| line.contains("hashed anew")).unwrap();
    let (from, to) = place_in(place);
    assert!(
        from <= publish && publish <= to,
        "{publish} is not between {from} and {to}: {verdict}"
    );
    // The hosts see it by themselves, tell everybody, and go on saying so.
    told(&cluster, &["status"], 0, &["WRONG: the audit record was rewritten", "host-1, host-2"]);
    told(&cluster, &["doctor", "host-1"], 1, &["host-1: database: the audit record was rewritten"]);
    cluster.kill_agent(0).unwrap();
    cluster.start_agent(0).unwrap();
    told(&cluster, &["audit", "--verify"], 1, &["noticed by host-1", "noticed by host-2"]);
}

/// `entry 4 is not` or `entries 3 to 5, or`.
fn place_in(line: &str) -> (u64, u64) {
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    if line.contains("one of the entries") {
        (numbers[0], numbers[1])
    } else {
        (numbers[0], numbers[0])
    }
}

#[test]
fn r30_what_was_handed_to_a_host_is_recorded_once_the_coordinator_is_back() {
    let (directory, mut cluster) = fleet(2);
    cluster.kill_coordinator().unwrap();
    let via = format!("{}:7070", cluster.agents()[1].address);
    let freeze =
        ["freeze", "--env", "production", "--for", "1h", "--reason", "night", "--via", &via];
    cluster.swell(&freeze).unwrap();
    cluster.start_coordinator().unwrap();
    let learned = ["audit", "--action", "learned"];
    told(&cluster, &learned, 0, &["learned", "production until", "night (by the fleet)"]);
    cluster.kill_coordinator().unwrap();
    cluster.start_coordinator().unwrap();
    let file = directory.path().join("audit.csv");
    let export = ["audit", "--csv", "--export", &file.display().to_string()];
    let told = cluster.swell(&export).unwrap();
    assert!(String::from_utf8_lossy(&told.stderr).contains(", its chain stands\n"), "{told:?}");
    let csv = std::fs::read_to_string(&file).unwrap();
    assert_eq!(csv.matches(",learned,").count(), 1, "{csv}");
    assert!(csv.starts_with("entry,at,at_utc,actor,") && csv.ends_with("\r\n"), "{csv}");
    let lines = text(&cluster.swell(&["audit", "--json"]).unwrap());
    let mut head = Head::EMPTY;
    for line in lines.lines() {
        let entry: Entry = serde_json::from_str(line).unwrap();
        head = coordinator::audit::follow(head, &entry).unwrap();
    }
    assert_eq!(head.length as usize, csv.lines().count() - 1);
}

#[test]
fn r30_a_record_begun_anew_by_a_recovery_is_told_from_one_that_was_rewritten() {
    let (_directory, mut cluster) = fleet(1);
    deploy_and_complete(&cluster, "1.0.0", 1);
    told(&cluster, &["audit", "--verify"], 0, &["as remembered by host-1"]);
    cluster.kill_coordinator().unwrap();
    std::fs::remove_dir_all(cluster.coordinator_state()).unwrap();
    let recovered = cluster.recover_coordinator(&cluster.agents()[0]).unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    cluster.start_coordinator().unwrap();
    let parts = ["are what was written", "an earlier record", "a recovery began this one"];
    // As long as nobody has said that there was one, it may be another record in the place of the first.
    let doubt =
        told(&cluster, &["audit", "--verify"], 1, &["WRONG: it says that a recovery began"]);
    let record = doubt.lines().find_map(|line| line.split("--recovered ").nth(1)).unwrap();
    told(&cluster, &["audit", "--verify", "--recovered", record], 0, &parts);
    told(&cluster, &["status"], 0, &["audit record: ", "a recovery began it on"]);
    let log = || cluster.log("host-1").contains("begun by a recovery");
    wait_until("the host says so", || Ok(log().then_some(()))).unwrap();
}
