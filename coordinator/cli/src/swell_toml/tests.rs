//! Every key, and every way to get one wrong, with the exact line an operator reads.

use super::*;

const GOOD: &str = r#"
    service = "web"
    [run]
    start = "bin/start"
    stop = "bin/stop"
    timeout_s = 10
    [health]
    http = "http://127.0.0.1:8080/healthz"
    warmup_s = 5
    [deploy.staging]
    strategy = "all-at-once"
    [deploy.production]
    strategy = "canary"
    approvals = 1
    max_unavailable = 3
    on_failure = "pause"
    stages = [
      { weight = 1, wait_minutes = 0.1, failed_max = 0 },
      { weight = 12.5, wait_minutes = 10, unreachable_max = "10%" },
      { weight = 100, wait_minutes = 0 },
    ]
"#;

fn read(text: &str) -> Result<SwellToml, SwellTomlError> {
    parse(Path::new("swell.toml"), text)
}

fn problems(text: &str) -> Vec<String> {
    match read(text) {
        Err(SwellTomlError::Bad { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_is_read() {
    let read = read(GOOD).unwrap();
    assert_eq!(read.service.as_str(), "web");
    assert_eq!(read.run, Run { start: "bin/start".into(), stop: "bin/stop".into(), timeout_s: 10 });
    let http = Some("http://127.0.0.1:8080/healthz".to_owned());
    assert_eq!(read.health, Health { http, warmup_s: 5, ..Health::default() });
    let deploy = |env: &str| &read.deploy[&env.parse::<Env>().unwrap()];
    assert_eq!(
        *deploy("staging"),
        Deploy {
            strategy: Strategy::AllAtOnce,
            approvals: 0,
            max_unavailable: Share::Percent(25.0),
            on_failure: OnFailure::Rollback,
        }
    );
    let stage = |weight, wait_s, failed_max, unreachable_max| Stage {
        weight,
        wait_s,
        failed_max,
        unreachable_max,
    };
    assert_eq!(
        *deploy("production"),
        Deploy {
            strategy: Strategy::Canary(vec![
                stage(1.0, 6, Some(Share::Count(0)), None),
                stage(12.5, 600, None, Some(Share::Percent(10.0))),
                stage(100.0, 0, None, None),
            ]),
            approvals: 1,
            max_unavailable: Share::Count(3),
            on_failure: OnFailure::Pause,
        }
    );
}

#[test]
fn one_bad_key_gives_one_line() {
    let (run, deploy) = ("[run]\nstart = 'a'\nstop = 'b'\n", "[deploy.a]\nstrategy = 'canary'\n");
    let top = "service = 'web'\n";
    let stage = |stage: &str| {
        format!("{top}{run}{deploy}stages = [{stage}, {{ weight = 100, wait_minutes = 0 }}]")
    };
    let health = |line: &str| format!("{top}{run}[health]\n{line}");
    let canary = |line: &str| {
        format!("{top}{run}{deploy}{line}\nstages = [{{ weight = 100, wait_minutes = 0 }}]")
    };
    let no_metrics = "this version reads no metrics, so nothing would come of it";
    let not_enforced = "this version does not enforce it (it judges by health.http and by \
                        whether the commands succeed): take it out, so that nobody relies on it";
    let cases = [
        ("no service", run.to_owned(), "service: is missing".to_owned()),
        (
            "a service that is no name",
            format!("service = 'Web'\n{run}"),
            "service: service name must be 1 to 32 of a-z, 0-9 and inner hyphens, got \"Web\""
                .to_owned(),
        ),
        ("no run", top.to_owned(), "run: is missing".to_owned()),
        ("no stop", format!("{top}[run]\nstart = 'a'"), "run.stop: is missing".to_owned()),
        (
            "a unit",
            format!("{top}{run}unit = 'web.service'"),
            "run.unit: this version starts no systemd units: give run.start and run.stop"
                .to_owned(),
        ),
        (
            "a user",
            format!("{top}{run}user = 'web'"),
            "run.user: this version runs every service as the user of its agent".to_owned(),
        ),
        (
            "an unknown key",
            format!("{top}{run}colour = 'red'"),
            "run.colour: there is no such key".to_owned(),
        ),
        (
            "an unknown section",
            format!("{top}{run}[build]\nimage = 'x'"),
            "build: there is no such key".to_owned(),
        ),
        ("metrics", health("metrics = 'x'"), format!("health.metrics: {no_metrics}")),
        ("window_s", health("window_s = 30"), format!("health.window_s: {no_metrics}")),
        (
            "error_threshold",
            health("error_threshold = 0.01"),
            format!("health.error_threshold: {not_enforced}"),
        ),
        ("p99", health("p99_ratio_max = 1.5"), format!("health.p99_ratio_max: {not_enforced}")),
        (
            "a number out of range",
            health("interval_ms = 5"),
            "health.interval_ms = 5: must be 100 to 60000".to_owned(),
        ),
        (
            "a negative number",
            health("interval_ms = -5"),
            "health.interval_ms = -5: must be a whole number, 0 or more".to_owned(),
        ),
        (
            "a text for a number",
            health("interval_ms = '5'"),
            "health.interval_ms = \"5\": must be a whole number, 0 or more".to_owned(),
        ),
        (
            "https",
            health("http = 'https://x'"),
            "health.http = \"https://x\": must be an http:// URL of at most 2048 bytes".to_owned(),
        ),
        (
            "error_threshold of a stage",
            stage("{ weight = 1, wait_minutes = 1, error_threshold = 0 }"),
            format!("deploy.a.stages.0.error_threshold: {not_enforced}"),
        ),
        (
            "no wait",
            stage("{ weight = 1 }"),
            "deploy.a.stages.0.wait_minutes: is missing".to_owned(),
        ),
        (
            "a weight of nothing",
            stage("{ weight = 0, wait_minutes = 1 }"),
            "deploy.a.stages.0.weight = 0: must be more than 0, at most 100".to_owned(),
        ),
        (
            "a wait of no number",
            stage("{ weight = 1, wait_minutes = nan }"),
            "deploy.a.stages.0.wait_minutes = nan: must be 0 to 10080".to_owned(),
        ),
        (
            "a weight that does not rise",
            stage("{ weight = 100, wait_minutes = 1 }"),
            "deploy.a.stages.1.weight = 100: must be more than the 100 before it".to_owned(),
        ),
        (
            "a budget that is no share",
            stage("{ weight = 1, wait_minutes = 1, failed_max = '101%' }"),
            "deploy.a.stages.0.failed_max = \"101%\": must be a number of hosts, or \"0%\" to \
             \"100%\""
                .to_owned(),
        ),
        (
            "stages that leave hosts out",
            format!("{top}{run}{deploy}stages = [{{ weight = 50, wait_minutes = 0 }}]"),
            "deploy.a.stages.0.weight = 50: must be 100, so that every host has its turn"
                .to_owned(),
        ),
        ("no stages", format!("{top}{run}{deploy}"), "deploy.a.stages: is missing".to_owned()),
        (
            "no stage",
            format!("{top}{run}{deploy}stages = []"),
            "deploy.a.stages: 0 of them, must be 1 to 16".to_owned(),
        ),
        (
            "stages of all at once",
            format!("{top}{run}[deploy.a]\nstrategy = 'all-at-once'\nstages = []"),
            "deploy.a.stages: only with strategy = \"canary\"".to_owned(),
        ),
        (
            "rolling",
            format!("{top}{run}[deploy.a]\nstrategy = 'rolling'"),
            "deploy.a.strategy = \"rolling\": this version has canary and all-at-once only"
                .to_owned(),
        ),
        (
            "blue-green",
            format!("{top}{run}[deploy.a]\nstrategy = 'blue-green'"),
            "deploy.a.strategy = \"blue-green\": this version has canary and all-at-once only"
                .to_owned(),
        ),
        (
            "another strategy",
            format!("{top}{run}[deploy.a]\nstrategy = 'yolo'"),
            "deploy.a.strategy = \"yolo\": must be canary or all-at-once".to_owned(),
        ),
        ("smoke", canary("smoke = ['bin/smoke']"), format!("deploy.a.smoke: {not_enforced}")),
        (
            "too many approvals",
            canary("approvals = 17"),
            "deploy.a.approvals = 17: must be 0 to 16".to_owned(),
        ),
        (
            "nobody may be down",
            canary("max_unavailable = '0%'"),
            "deploy.a.max_unavailable = 0%: must be more than 0".to_owned(),
        ),
        (
            "another end",
            canary("on_failure = 'cry'"),
            "deploy.a.on_failure = \"cry\": must be rollback or pause".to_owned(),
        ),
        (
            "an environment that is no name",
            format!("{top}{run}[deploy.\"A b\"]\nstrategy = 'all-at-once'"),
            "deploy.A b: environment name must be 1 to 32 of a-z, 0-9 and inner hyphens, got \
             \"A b\""
                .to_owned(),
        ),
        (
            "an environment that is no table",
            format!("{top}{run}[deploy]\nstaging = 3"),
            "deploy.staging = 3: must be a table".to_owned(),
        ),
    ];
    for (name, text, problem) in cases {
        assert_eq!(problems(&text), [problem], "{name}");
    }
}

#[test]
fn all_that_is_bad_is_told_at_once() {
    let text = "service = 7\n[run]\nstart = ''\nstop = 'b'\nunit = 'u'\n[health]\n\
                interval_ms = 1\nmetrics = 'm'\n[deploy.x]\nstrategy = 'rolling'\nbatch = 10\n";
    assert_eq!(
        read(text).unwrap_err().to_string(),
        "swell.toml has 7 bad value(s):\
         \n  service = 7: must be a text\
         \n  run.unit: this version starts no systemd units: give run.start and run.stop\
         \n  run.start = 0 bytes: must be 1 to 4096 bytes\
         \n  health.metrics: this version reads no metrics, so nothing would come of it\
         \n  health.interval_ms = 1: must be 100 to 60000\
         \n  deploy.x.batch: this version has no strategy that goes by batches\
         \n  deploy.x.strategy = \"rolling\": this version has canary and all-at-once only"
    );
}

#[test]
fn the_file_is_looked_for_where_it_may_stand() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = [one.path(), two.path()];
    let missing = load(None, &dirs).unwrap_err();
    let expected =
        format!("there is no swell.toml in {} or {}", one.path().display(), two.path().display());
    assert_eq!(missing.to_string(), expected);
    std::fs::write(two.path().join(SWELL_TOML), GOOD).unwrap();
    assert!(load(None, &dirs).is_ok());
    // The nearer one wins, also when it is bad.
    std::fs::write(one.path().join(SWELL_TOML), "x = 1").unwrap();
    assert!(matches!(load(None, &dirs), Err(SwellTomlError::Bad { .. })));
    let named = two.path().join(SWELL_TOML);
    assert!(load(Some(&named), &dirs).is_ok());
    let gone = load(Some(&one.path().join("other.toml")), &dirs);
    assert!(matches!(gone, Err(SwellTomlError::Read { .. })));
}
