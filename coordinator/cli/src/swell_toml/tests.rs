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
    failed_max = 1
    windows = ["mon-fri 09:00-17:00"]
    [deploy.edge]
    strategy = "rolling"
    batch = "10%"
    wait_minutes = 0.5
    unreachable_max = 2
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
    assert_eq!(
        read.run,
        Run { start: "bin/start".into(), stop: "bin/stop".into(), timeout_s: 10, ..Run::default() }
    );
    let http = Some("http://127.0.0.1:8080/healthz".to_owned());
    assert_eq!(read.health, Health { http, warmup_s: 5, ..Health::default() });
    let deploy = |env: &str| &read.deploy[&env.parse::<Env>().unwrap()];
    assert_eq!(
        *deploy("staging"),
        Deploy {
            strategy: Strategy::AllAtOnce {
                failed_max: Some(Share::Count(1)),
                unreachable_max: None,
            },
            approvals: None,
            max_unavailable: None,
            on_failure: None,
            windows: vec!["mon-fri 09:00-17:00".parse().unwrap()],
            thresholds: Thresholds::default(),
        }
    );
    assert_eq!(
        deploy("edge").strategy,
        Strategy::Rolling {
            batch: Share::Percent(10.0),
            wait_s: 30,
            failed_max: None,
            unreachable_max: Some(Share::Count(2)),
        }
    );
    let stage = |weight, wait_s, failed_max, unreachable_max| Stage {
        weight,
        wait_s,
        failed_max,
        unreachable_max,
        errors_ppm: None,
    };
    assert_eq!(
        *deploy("production"),
        Deploy {
            strategy: Strategy::Canary(vec![
                stage(1.0, 6, Some(Share::Count(0)), None),
                stage(12.5, 600, None, Some(Share::Percent(10.0))),
                stage(100.0, 0, None, None),
            ]),
            approvals: Some(1),
            max_unavailable: Some(Share::Count(3)),
            on_failure: Some(OnFailure::Pause),
            windows: Vec::new(),
            thresholds: Thresholds::default(),
        }
    );
}

#[test]
fn r23_a_unit_a_user_and_hooks_are_read() {
    const TEXT: &str = "service = 'web'\n[run]\nunit = 'web.service'\nuser = 'web'\ndrain = 'a'\n\
                        check = 'b'\nundrain = 'c'\nafter_commit = 'd'\n";
    let text = |text: &str| Some(text.to_owned());
    let expected = Run {
        timeout_s: 30,
        unit: text("web.service"),
        user: text("web"),
        drain: text("a"),
        check: text("b"),
        undrain: text("c"),
        after_commit: text("d"),
        ..Run::default()
    };
    assert_eq!(read(TEXT).unwrap().run, expected);
}

/// The example of the README, as far as it is about requests.
#[test]
fn r24_what_is_counted_and_what_it_is_held_against_is_read() {
    let text = r#"
        service = "web"
        [run]
        start = "a"
        stop = "b"
        [health]
        metrics = "http://127.0.0.1:8080/metrics"
        errors = 'http_requests_total{code=~"5.."}'
        window_s = 60
        requests_min = 50
        error_threshold = 0.02
        p99_ratio_max = 1.5
        [deploy.a]
        strategy = "canary"
        stages = [
          { weight = 1, wait_minutes = 1, error_threshold = 0.005 },
          { weight = 100, wait_minutes = 0 },
        ]
    "#;
    let read = read(text).unwrap();
    let metrics = Some("http://127.0.0.1:8080/metrics".to_owned());
    assert_eq!(read.health, Health { metrics, window_s: 60, ..Health::default() });
    let deploy = &read.deploy[&"a".parse::<Env>().unwrap()];
    let expected = Thresholds {
        requests_min: Some(50),
        errors_ppm: Some(20_000),
        p99_ratio_percent: Some(150),
    };
    assert_eq!(deploy.thresholds, expected);
    let Strategy::Canary(stages) = &deploy.strategy else { panic!("{deploy:?}") };
    let errors_ppm: Vec<_> = stages.iter().map(|stage| stage.errors_ppm).collect();
    assert_eq!(errors_ppm, [Some(5_000), None]);
}

const TOP: &str = "service = 'web'\n[run]\nstart = 'a'\nstop = 'b'\n";
const NOT_ENFORCED: &str = "this version does not enforce it (it judges by health.http and by \
                            whether the commands succeed): take it out, so that nobody relies on it";

/// One bad key gives one line, and nothing else.
fn check(cases: &[(&str, String, &str)]) {
    for (name, text, problem) in cases {
        assert_eq!(problems(text), [*problem], "{name}");
    }
}

#[test]
fn a_bad_service_or_run_gives_one_line() {
    let run = &TOP["service = 'web'\n".len()..];
    let unit = |line: &str| format!("service = 'web'\n[run]\nunit = 'web.service'\n{line}");
    let both = "run.unit: a service runs by it, or by run.start and run.stop: not both";
    check(&[
        ("no service", run.to_owned(), "service: is missing"),
        (
            "a service that is no name",
            format!("service = 'Web'\n{run}"),
            "service: service name must be 1 to 32 of a-z, 0-9 and inner hyphens, got \"Web\"",
        ),
        ("no run", "service = 'web'".to_owned(), "run: is missing"),
        ("no stop", "service = 'web'\n[run]\nstart = 'a'".to_owned(), "run.stop: is missing"),
        ("a unit and commands", format!("{TOP}unit = 'web.service'"), both),
        ("a unit and a command", unit("stop = 'a'"), both),
        (
            "a unit in a directory",
            "service = 'web'\n[run]\nunit = 'etc/web.service'".to_owned(),
            "run.unit = \"etc/web.service\": must be the name of a file at the root of the artifact, \
             of A-Z, a-z, 0-9, `_`, `.`, `@`, `-`, like \"web.service\"",
        ),
        (
            "a user that is none",
            format!("{TOP}user = 'Web'"),
            "run.user = \"Web\": must be 1 to 32 of a-z, 0-9, `_`, `-`, not starting with a digit \
             or `-`",
        ),
        ("a hook that is none", unit("drain = 7"), "run.drain = 7: must be a text"),
        ("an empty hook", unit("check = ''"), "run.check = 0 bytes: must be 1 to 4096 bytes"),
        (
            "a reload",
            format!("{TOP}reload = 'a'"),
            "run.reload: this version stops and starts: it knows no reload",
        ),
        ("an unknown key", format!("{TOP}colour = 'red'"), "run.colour: there is no such key"),
        ("an unknown section", format!("{TOP}[build]\nimage = 'x'"), "build: there is no such key"),
    ]);
}

#[test]
fn a_bad_health_gives_one_line() {
    let health = |line: &str| format!("{TOP}[health]\n{line}");
    for key in COUNTING_KEYS {
        let alone = format!("health.{key}: needs health.metrics: without it no request is counted");
        check(&[(key, health(&format!("{key} = 1")), &alone)]);
    }
    let counted = |line: &str| health(&format!("metrics = 'http://x/'\n{line}"));
    check(&[
        (
            "no requests to judge by",
            counted("requests_min = 0"),
            "health.requests_min: must be 1 or more",
        ),
        ("a long window", counted("window_s = 601"), "health.window_s = 601: must be 5 to 600"),
        ("no command", health("command = ''"), "health.command = 0 bytes: must be 1 to 4096 bytes"),
        (
            "no unit",
            health("journal_errors_max = 9"),
            "health.journal_errors_max: only what a unit writes is told apart in the journal: it needs \
             run.unit",
        ),
        (
            "more errors than requests",
            counted("error_threshold = 1.5"),
            "health.error_threshold = 1.5: must be 0 to 1",
        ),
        (
            "faster than before",
            counted("p99_ratio_max = 0.9"),
            "health.p99_ratio_max = 0.9: must be 1 to 100",
        ),
        (
            "no selector",
            counted("errors = 'errors{code=500}'"),
            "health.errors = \"errors{code=500}\": a label's value stands in double quotes",
        ),
        (
            "https",
            health("metrics = 'https://x'"),
            "health.metrics = \"https://x\": must be an http:// URL of at most 2048 bytes",
        ),
    ]);
    check(&[
        (
            "a number out of range",
            health("interval_ms = 5"),
            "health.interval_ms = 5: must be 100 to 60000",
        ),
        (
            "a negative number",
            health("interval_ms = -5"),
            "health.interval_ms = -5: must be a whole number, 0 or more",
        ),
        (
            "a text for a number",
            health("interval_ms = '5'"),
            "health.interval_ms = \"5\": must be a whole number, 0 or more",
        ),
        (
            "https",
            health("http = 'https://x'"),
            "health.http = \"https://x\": must be an http:// URL of at most 2048 bytes",
        ),
    ]);
}

#[test]
fn a_bad_stage_gives_one_line() {
    let stages =
        |stages: &str| format!("{TOP}[deploy.a]\nstrategy = 'canary'\nstages = [{stages}]");
    let stage = |stage: &str| stages(&format!("{stage}, {{ weight = 100, wait_minutes = 0 }}"));
    let share = "deploy.a.stages.0.failed_max = \"101%\": must be a number of hosts, or \"0%\" to \
                 \"100%\"";
    check(&[
        (
            "error_threshold without metrics",
            stage("{ weight = 1, wait_minutes = 1, error_threshold = 0 }"),
            "deploy.a.stages: error_threshold needs health.metrics: without it no request is counted",
        ),
        (
            "a ratio of its own",
            stage("{ weight = 1, wait_minutes = 1, p99_ratio_max = 2 }"),
            "deploy.a.stages.0.p99_ratio_max: once for all stages: health.p99_ratio_max",
        ),
        ("no wait", stage("{ weight = 1 }"), "deploy.a.stages.0.wait_minutes: is missing"),
        (
            "a weight of nothing",
            stage("{ weight = 0, wait_minutes = 1 }"),
            "deploy.a.stages.0.weight = 0: must be more than 0, at most 100",
        ),
        (
            "a wait of no number",
            stage("{ weight = 1, wait_minutes = nan }"),
            "deploy.a.stages.0.wait_minutes = nan: must be 0 to 10080",
        ),
        (
            "a weight that does not rise",
            stage("{ weight = 100, wait_minutes = 1 }"),
            "deploy.a.stages.1.weight = 100: must be more than the 100 before it",
        ),
        (
            "a budget that is no share",
            stage("{ weight = 1, wait_minutes = 1, failed_max = '101%' }"),
            share,
        ),
        (
            "hosts left out",
            stages("{ weight = 50, wait_minutes = 0 }"),
            "deploy.a.stages.0.weight = 50: must be 100, so that every host has its turn",
        ),
        ("no stage", stages(""), "deploy.a.stages: 0 of them, must be 1 to 16"),
        ("no table", stages("7"), "deploy.a.stages.0 = 7: must be a table"),
    ]);
}

#[test]
fn a_bad_strategy_gives_one_line() {
    let deploy = |text: &str| format!("{TOP}[deploy.a]\n{text}");
    let canary = |line: &str| {
        deploy(&format!(
            "strategy = 'canary'\n{line}\nstages = [{{ weight = 100, wait_minutes = 0 }}]"
        ))
    };
    let only_rolling =
        "deploy.a.wait_minutes: only with strategy = \"rolling\", and in the stages of a canary";
    let smoke = format!("deploy.a.smoke: {NOT_ENFORCED}");
    check(&[
        ("no stages", deploy("strategy = 'canary'"), "deploy.a.stages: is missing"),
        (
            "stages of all at once",
            deploy("strategy = 'all-at-once'\nstages = []"),
            "deploy.a.stages: only with strategy = \"canary\"",
        ),
        (
            "a batch of a canary",
            canary("batch = 1"),
            "deploy.a.batch: only with strategy = \"rolling\"",
        ),
        (
            "a wait of all at once",
            deploy("strategy = 'all-at-once'\nwait_minutes = 1"),
            only_rolling,
        ),
        (
            "blue-green",
            deploy("strategy = 'blue-green'\nstages = []"),
            "deploy.a.strategy = \"blue-green\": must be canary, rolling or all-at-once",
        ),
        (
            "another strategy",
            deploy("strategy = 'yolo'"),
            "deploy.a.strategy = \"yolo\": must be canary, rolling or all-at-once",
        ),
        ("smoke", canary("smoke = ['bin/smoke']"), &smoke),
        ("too many approvals", canary("approvals = 9"), "deploy.a.approvals = 9: must be 0 to 8"),
        (
            "nobody may be down",
            canary("max_unavailable = '0%'"),
            "deploy.a.max_unavailable = 0%: must be more than 0",
        ),
        (
            "a budget beside the stages",
            canary("failed_max = 1"),
            "deploy.a.failed_max: with strategy = \"canary\", each stage has its own",
        ),
        (
            "another end",
            canary("on_failure = 'cry'"),
            "deploy.a.on_failure = \"cry\": must be rollback or pause",
        ),
    ]);
}

#[test]
fn a_bad_window_gives_one_line() {
    let windows =
        |list: &str| format!("{TOP}[deploy.a]\nstrategy = 'all-at-once'\nwindows = {list}");
    let must = "must be days and times in UTC, such as \"mon-fri 09:00-17:00\"";
    let of_list = "must be a list of days and times in UTC, such as \"mon-fri 09:00-17:00\"";
    let many = format!("[{}]", "'mon 09:00-10:00', ".repeat(17));
    check(&[
        (
            "no list",
            windows("'mon 09:00-10:00'"),
            &format!("deploy.a.windows = \"mon 09:00-10:00\": {of_list}"),
        ),
        ("none of them", windows("[]"), "deploy.a.windows: 0 of them, must be 1 to 16"),
        ("too many", windows(&many), "deploy.a.windows: 17 of them, must be 1 to 16"),
        ("no text", windows("[9]"), &format!("deploy.a.windows.0 = 9: {must}")),
        (
            "another time",
            windows("['mon 09:00-10:00', 'mon 9-10']"),
            &format!("deploy.a.windows.1 = \"mon 9-10\": {must}"),
        ),
    ]);
}

#[test]
fn a_bad_batch_gives_one_line() {
    let rolling = |lines: &str| format!("{TOP}[deploy.a]\nstrategy = 'rolling'\n{lines}");
    check(&[
        ("no batch", rolling("wait_minutes = 1"), "deploy.a.batch: is missing"),
        ("no wait", rolling("batch = 1"), "deploy.a.wait_minutes: is missing"),
        (
            "a batch of nobody",
            rolling("wait_minutes = 1\nbatch = 0"),
            "deploy.a.batch = 0: must be more than 0",
        ),
        (
            "a batch of 0 %",
            rolling("wait_minutes = 1\nbatch = '0%'"),
            "deploy.a.batch = 0%: must be more than 0",
        ),
        (
            "a batch that is no share",
            rolling("wait_minutes = 1\nbatch = '101%'"),
            "deploy.a.batch = \"101%\": must be a number of hosts, or \"0%\" to \"100%\"",
        ),
        (
            "a wait that is too long",
            rolling("wait_minutes = 10081\nbatch = 1"),
            "deploy.a.wait_minutes = 10081: must be 0 to 10080",
        ),
        (
            "stages of batches",
            rolling("wait_minutes = 1\nbatch = 1\nstages = []"),
            "deploy.a.stages: only with strategy = \"canary\"",
        ),
    ]);
}

#[test]
fn a_bad_environment_gives_one_line() {
    check(&[
        (
            "that is no name",
            format!("{TOP}[deploy.\"A b\"]\nstrategy = 'all-at-once'"),
            "deploy.A b: environment name must be 1 to 32 of a-z, 0-9 and inner hyphens, got \
             \"A b\"",
        ),
        (
            "that is no table",
            format!("{TOP}[deploy]\nstaging = 3"),
            "deploy.staging = 3: must be a table",
        ),
    ]);
}

#[test]
fn all_that_is_bad_is_told_at_once() {
    let text = "service = 7\n[run]\nstart = ''\nstop = 'b'\nreload = 'r'\n[health]\n\
                interval_ms = 1\nmetrics = 'm'\n[deploy.x]\nstrategy = 'rolling'\nstages = 10\n";
    assert_eq!(
        read(text).unwrap_err().to_string(),
        "swell.toml has 8 bad value(s):\
         \n  service = 7: must be a text\
         \n  run.reload: this version stops and starts: it knows no reload\
         \n  run.start = 0 bytes: must be 1 to 4096 bytes\
         \n  health.metrics = \"m\": must be an http:// URL of at most 2048 bytes\
         \n  health.interval_ms = 1: must be 100 to 60000\
         \n  deploy.x.batch: is missing\
         \n  deploy.x.wait_minutes: is missing\
         \n  deploy.x.stages: only with strategy = \"canary\""
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
    let tried = vec![SWELL_TOML.into(), format!("./{SWELL_TOML}").into()];
    let once = SwellTomlError::NotFound { tried };
    assert_eq!(once.to_string(), "there is no swell.toml in .");
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
