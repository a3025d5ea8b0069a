//! `host gc`, as text.

use proto::id::Name;
use proto::report::{DiskReport, Fate, FreeReport, StoredArtifact, StoredRelease};

use super::{plain, table};
use crate::span;

/// `swell host gc`.
pub(crate) fn disk(host: &Name, report: &DiskReport) -> String {
    let mut text = String::new();
    for stored in &report.services {
        let row = |one: &StoredRelease| {
            [
                one.version.to_string(),
                one.release.to_string(),
                span::bytes(one.bytes),
                one.files.to_string(),
                fate(report, one.fate),
            ]
        };
        let rows: Vec<_> = stored.releases.iter().map(row).collect();
        text.push_str(&format!("{} on {host}\n", stored.service));
        text.push_str(&table(["VERSION", "RELEASE", "SIZE", "FILES", "WHY"], &rows));
        if !stored.note.is_empty() {
            text.push_str(&format!("not cleared away: {}\n", plain(&stored.note)));
        }
        text.push('\n');
    }
    if !report.artifacts.is_empty() {
        let rows: Vec<_> = report.artifacts.iter().map(|one| artifact(report, one)).collect();
        text.push_str(&table(["ARTIFACT", "HELD", "OF", "RELEASES", "WHY"], &rows));
        text.push('\n');
    }
    text.push_str(&sum(report));
    text.extend(report.free.iter().map(free));
    text
}

/// Something that goes has gone, unless it was only looked at.
fn fate(report: &DiskReport, fate: Fate) -> String {
    match fate {
        Fate::Remove => goes(report).to_owned(),
        Fate::Recent => format!("stays: one of the newest {}", report.keep_releases),
        stays => stays.to_string(),
    }
}

const fn goes(report: &DiskReport) -> &'static str {
    if report.dry_run { "would go" } else { "gone" }
}

fn artifact(report: &DiskReport, one: &StoredArtifact) -> [String; 5] {
    let releases = one.releases.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ");
    let why = match (one.goes, one.releases.is_empty()) {
        (true, _) => goes(report).to_owned(),
        (false, false) => "stays: a release needs it".to_owned(),
        (false, true) => "stays: of no service here".to_owned(),
    };
    [
        one.artifact.to_string(),
        span::bytes(one.bytes),
        span::bytes(one.of_bytes),
        if releases.is_empty() { "-".to_owned() } else { releases },
        why,
    ]
}

/// What goes in all.
fn sum(report: &DiskReport) -> String {
    let releases = report.services.iter().flat_map(|service| &service.releases);
    let releases: Vec<_> = releases.filter(|one| one.fate == Fate::Remove).collect();
    let artifacts: Vec<_> = report.artifacts.iter().filter(|one| one.goes).collect();
    let bytes = releases.iter().map(|one| one.bytes).sum::<u64>()
        + artifacts.iter().map(|one| one.bytes).sum::<u64>();
    if releases.is_empty() && artifacts.is_empty() {
        return "nothing goes\n".to_owned();
    }
    format!(
        "{}: {}, {}, {}\n",
        goes(report),
        span::count(releases.len(), "release"),
        span::count(artifacts.len(), "artifact"),
        span::bytes(bytes)
    )
}

fn free(free: &FreeReport) -> String {
    let files = free.files.map(|files| format!(", {files} files")).unwrap_or_default();
    format!("free: {}{files} in {}\n", span::bytes(free.bytes), plain(&free.directory))
}

#[cfg(test)]
mod tests {
    use proto::id::Digest;
    use proto::report::StoredService;

    use super::*;

    fn report(dry_run: bool) -> DiskReport {
        let release = |version: &str, fate| StoredRelease {
            release: Digest::of(version.as_bytes()),
            version: version.parse().unwrap(),
            bytes: 3 << 20,
            files: 12,
            fate,
        };
        let releases = vec![
            release("1.0", Fate::Remove),
            release("1.1", Fate::Recent),
            release("1.2", Fate::From),
            release("1.3", Fate::Current),
        ];
        let artifact = |name: &str, goes| StoredArtifact {
            artifact: Digest::of(name.as_bytes()),
            bytes: 1 << 20,
            of_bytes: 2 << 20,
            releases: if name.is_empty() { Vec::new() } else { vec![format!("web {name}")] },
            goes,
        };
        DiskReport {
            dry_run,
            keep_releases: 5,
            services: vec![StoredService {
                service: "web".parse().unwrap(),
                releases,
                note: String::new(),
            }],
            artifacts: vec![artifact("1.0", true), artifact("1.3", false), artifact("", false)],
            free: vec![
                FreeReport { directory: "/srv".to_owned(), bytes: 5 << 30, files: Some(100) },
                FreeReport { directory: "/var/lib".to_owned(), bytes: 1 << 30, files: None },
            ],
        }
    }

    #[test]
    fn r29_why_each_thing_stays_is_said() {
        let id = |name: &str| Digest::of(name.as_bytes()).to_string();
        let expected = format!(
            "\
web on n1
VERSION  RELEASE       SIZE     FILES  WHY
1.0      {}  3.0 MiB  12     would go
1.1      {}  3.0 MiB  12     stays: one of the newest 5
1.2      {}  3.0 MiB  12     stays: the way back goes there
1.3      {}  3.0 MiB  12     stays: it runs

ARTIFACT      HELD     OF       RELEASES  WHY
{}  1.0 MiB  2.0 MiB  web 1.0   would go
{}  1.0 MiB  2.0 MiB  web 1.3   stays: a release needs it
{}  1.0 MiB  2.0 MiB  -         stays: of no service here

would go: 1 release, 1 artifact, 4.0 MiB
free: 5.0 GiB, 100 files in /srv
free: 1.0 GiB in /var/lib
",
            id("1.0"),
            id("1.1"),
            id("1.2"),
            id("1.3"),
            id("1.0"),
            id("1.3"),
            id("")
        );
        let n1 = "n1".parse().unwrap();
        assert_eq!(disk(&n1, &report(true)), expected);
        let mut done = report(false);
        let text = disk(&n1, &done);
        assert_eq!(text, expected.replace("would go", "gone"));
        done.services[0].note = "a step is under way".to_owned();
        assert!(disk(&n1, &done).contains("not cleared away: a step is under way\n"));
        done.services.clear();
        done.artifacts.clear();
        assert!(disk(&n1, &done).starts_with("nothing goes\nfree: "));
    }
}
