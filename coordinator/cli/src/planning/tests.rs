//! What is planned from which facts, and what is refused.

use ed25519_dalek::SigningKey;
use proto::key::PublicKey;
use proto::receipt::State;
use proto::statement::{KeyEntry, Payload as _, Role, RoleKeys, Wave};
use rollout::plan::Stage;

use super::settings::Origin;

use super::*;
use crate::render::sample;

/// Three people may approve, the author among them.
fn root(policy: Policy) -> Root {
    let keys = [1, 2, 3].map(|seed| PublicKey::of(&SigningKey::from_bytes(&[seed; 32])));
    let owners = ["ada", "bob", "eve"];
    let entry = |(key, owner): (&PublicKey, &str)| {
        (KeyId::of(key), KeyEntry { key: *key, owner: owner.parse().unwrap() })
    };
    let holders = RoleKeys { keys: keys.iter().map(KeyId::of).collect(), threshold: 1 };
    Root {
        fleet: "shop-00000000".parse().unwrap(),
        version: 1,
        expires: UnixTime(u64::MAX),
        keys: keys.iter().zip(owners).map(entry).collect(),
        roles: [(Role::Approve("production".parse().unwrap()), holders)].into(),
        environments: [("production".parse().unwrap(), policy)].into(),
        critical: Vec::new(),
    }
}

fn canary(approvals: u8) -> Deploy {
    Deploy {
        strategy: Strategy::Canary(vec![Stage::new(1.0, 60), Stage::new(100.0, 0)]),
        approvals: Some(approvals),
        max_unavailable: Some(Share::Percent(50.0)),
        on_failure: None,
        windows: Vec::new(),
        thresholds: Thresholds::default(),
    }
}

fn forward(
    policy: Policy,
    facts: &Facts,
    version: &str,
    deploy: &Deploy,
) -> Result<Planned, PlanningError> {
    let (root, env) = (root(policy), "production".parse().unwrap());
    let intent = intent(&root, &env);
    super::forward(&intent, facts, &sample::release(version), deploy)
}

fn intent<'a>(root: &'a Root, env: &'a Env) -> Intent<'a> {
    let author = KeyId::of(&PublicKey::of(&SigningKey::from_bytes(&[1; 32])));
    Intent { root, env, author, reason: "why".to_owned(), now: sample::CREATED }
}

fn complete() -> Facts {
    sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Complete)
}

#[test]
fn a_rollout_continues_its_scope_from_the_stable_release() {
    let planned = forward(Policy::default(), &complete(), "1.3.0", &canary(0)).unwrap();
    let rollout = planned.rollout;
    rollout.check().unwrap();
    assert_eq!((rollout.epoch, rollout.previous), (5, Some(Digest::of(b"newest"))));
    assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"));
    assert_eq!(planned.times.promote_s, 10 + 60 + 2 * 10);
    assert_eq!(rollout.expires, sample::CREATED.plus_s(90 + EXPIRES_S), "a day beyond that");
    assert_eq!(rollout.cohort.len(), 6, "the silent one is left out");
    let [n7] = &planned.left_out[..] else { panic!("{:?}", planned.left_out) };
    assert_eq!((n7.name.as_str(), n7.why), ("n7", Fitness::Silent));
    assert_eq!(planned.names.len(), 6);
    assert_eq!(rollout.max_unavailable, 3);
    assert_eq!(planned.replaces, None);
}

#[test]
fn a_scope_starts_with_epoch_1_from_nothing() {
    let facts = Facts { head: None, report: None, stable: None, ..complete() };
    let rollout = forward(Policy::default(), &facts, "1.0.0", &canary(0)).unwrap().rollout;
    rollout.check().unwrap();
    assert_eq!((rollout.epoch, rollout.previous, rollout.from), (1, None, None));
}

/// R25: what some hosts have committed already would be gone with a version that fails.
#[test]
fn r25_nothing_is_deployed_over_a_first_rollout_that_goes_on() {
    use RolloutPhase as P;
    let plan = |phase, adopt| {
        let mut facts = sample::facts(None, "1.2.0", Direction::Forward, phase);
        facts.head.as_mut().unwrap().1.adopt = adopt;
        forward(Policy::default(), &Facts { stable: None, ..facts }, "1.3.0", &canary(0))
    };
    for (phase, refused) in [(P::Running, true), (P::Paused, true), (P::Halted, false)] {
        let planned = plan(phase, false);
        let over = matches!(planned, Err(PlanningError::OverFirst { .. }));
        assert_eq!((over, planned.is_err()), (refused, refused), "{phase:?}");
    }
    // So it is with an adoption; of one that was given up it is told what that means.
    assert!(matches!(plan(P::Running, true), Err(PlanningError::Adopting { .. })));
    let notes = plan(P::Aborted, true).unwrap().notes;
    assert!(notes.iter().any(|note| note.starts_with("the adoption was given up")), "{notes:?}");
    assert!(!plan(P::Aborted, false).unwrap().notes.iter().any(|note| note.contains("adoption")));
}

#[test]
fn a_scope_that_no_host_would_hear_of_is_not_planned() {
    let first = |scopes| Facts { head: None, report: None, stable: None, scopes, ..complete() };
    let plan = |facts: &Facts| forward(Policy::default(), facts, "1.3.0", &canary(0));
    plan(&first(7)).unwrap();
    let error = plan(&first(8)).unwrap_err();
    assert!(matches!(error, PlanningError::TooMany { .. }), "{error}");
    assert!(error.next().unwrap().starts_with("make another fleet"));
    plan(&Facts { scopes: 8, ..complete() }).expect("one that is there goes on");
}

#[test]
fn after_a_halt_the_next_one_starts_from_what_was_stable() {
    let facts = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Halted);
    let rollout = forward(Policy::default(), &facts, "1.2.1", &canary(0)).unwrap().rollout;
    assert_eq!(rollout.from.unwrap().version, sample::version("1.1.0"));
}

#[test]
fn what_is_there_or_on_its_way_is_not_deployed_again() {
    let error = forward(Policy::default(), &complete(), "1.2.0", &canary(0)).unwrap_err();
    assert_eq!(error.to_string(), "web 1.2.0 is the stable release of production already");
    let running = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Running);
    let error = forward(Policy::default(), &running, "1.2.0", &canary(0)).unwrap_err();
    assert!(matches!(error, PlanningError::OnItsWay { .. }), "{error}");
    let planned = forward(Policy::default(), &running, "1.3.0", &canary(0)).unwrap();
    assert_eq!(planned.replaces, Some(Digest::of(b"newest")));
}

#[test]
fn the_policy_of_the_environment_wins_where_it_is_stricter() {
    let policy = Policy { approvals_min: 2, ..Policy::default() };
    for (own, effective) in [(0, 2), (1, 2), (2, 2)] {
        let planned = forward(policy.clone(), &complete(), "1.3.0", &canary(own)).unwrap();
        assert_eq!(planned.rollout.approvals, effective);
    }
    let policy = Policy { bake_s_min: 61, ..Policy::default() };
    let error = forward(policy, &complete(), "1.3.0", &canary(0)).unwrap_err();
    assert_eq!(error.to_string(), "the plan is looser than the policy of production");
    let root = root(Policy::default());
    let env = "moon".parse().unwrap();
    let release = sample::release("1.3.0");
    let error = super::forward(&intent(&root, &env), &complete(), &release, &canary(0));
    let expected = "there is no environment moon in fleet shop-00000000: it has production";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

fn back(facts: &Facts, version: &str) -> Result<Planned, PlanningError> {
    let (root, env) = (root(Policy::default()), "production".parse().unwrap());
    super::back(&intent(&root, &env), facts, &sample::release(version))
}

#[test]
fn a_rollback_takes_every_host_at_once() {
    let rollout = back(&complete(), "1.1.0").unwrap().rollout;
    rollout.check().unwrap();
    assert_eq!(rollout.direction, Direction::Rollback);
    assert_eq!(rollout.epoch, 5);
    assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"));
    let wave = Wave { hosts: 6, wait_s: 0, failed_max: 6, unreachable_max: 1 };
    assert_eq!(rollout.waves, [wave]);
    assert_eq!(rollout.max_unavailable, 6);
    assert_eq!(rollout.approvals, 0);
}

#[test]
fn a_rollback_of_what_never_became_stable_goes_to_the_stable_release() {
    let halted = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Halted);
    let rollout = back(&halted, "1.1.0").unwrap().rollout;
    rollout.check().unwrap();
    assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"));
    let rollout = back(&halted, "1.0.0").unwrap().rollout;
    assert_eq!(rollout.from.unwrap().version, sample::version("1.1.0"));
    assert!(matches!(back(&complete(), "1.2.0"), Err(PlanningError::Stable { .. })));
}

#[test]
fn a_rollback_that_failed_is_tried_again() {
    use RolloutPhase as P;
    let (service, env) = ("web".parse().unwrap(), "production".parse().unwrap());
    for phase in [P::Halted, P::Aborted, P::Expired, P::Complete] {
        let mut facts = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, phase);
        let stuck = sample::standing(0, 0, Some(State::RevertFailed));
        facts.report.as_mut().unwrap().hosts = vec![stuck];
        for stable in ["1.1.0", "1.2.0"] {
            facts.stable = Some(sample::release(stable));
            let to = version_before(&facts, &service, &env).unwrap();
            assert_eq!(to.version, sample::version("1.1.0"), "{phase:?}");
            let rollout = back(&facts, "1.1.0").unwrap().rollout;
            rollout.check().unwrap();
            assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"), "{phase:?}");
        }
    }
    let running = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, P::Running);
    assert!(matches!(back(&running, "1.1.0"), Err(PlanningError::OnItsWay { .. })));
    let done = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, P::Complete);
    assert!(matches!(back(&done, "1.1.0"), Err(PlanningError::Stable { .. })));
}

/// Whoever wants to take back what has gone back by itself is told so; before its end a rollback is the way
/// to stop it, wherever hosts are.
#[test]
fn r12_where_every_host_is_back_there_is_nothing_to_take_back() {
    use RolloutPhase as P;
    for (phase, silent, there, refused) in [
        (P::Halted, 0, 6, true),
        (P::Aborted, 0, 6, true),
        // It may still have it, and follows the rollback once it is heard.
        (P::Halted, 1, 6, false),
        (P::Halted, 0, 5, false),
        (P::Halted, 0, 0, false),
        (P::Running, 0, 6, false),
        (P::Expired, 0, 6, false),
    ] {
        let mut facts = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, phase);
        let gone = serde_json::json!({
            "state": "rolled-back", "back": 1, "going": 0, "keep": 0, "stuck": 0, "silent": silent,
        });
        let stopped = matches!(phase, P::Halted | P::Aborted);
        let report = facts.report.as_mut().unwrap();
        report.back = stopped.then(|| serde_json::from_value(gone).unwrap());
        let hosts = facts.hosts.iter().take(there).map(|candidate| candidate.host.id.clone());
        facts.serves = hosts.map(|id| (id, sample::version("1.1.0"))).collect();
        match back(&facts, "1.1.0") {
            Err(PlanningError::AllThere { .. }) => assert!(refused, "{phase:?}, {there}"),
            Err(other) => panic!("{other:?}"),
            Ok(planned) => {
                assert!(!refused, "{phase:?}, {there}");
                let note = format!("{there} of 6 hosts serve 1.1.0 already, and go on so");
                assert_eq!(planned.notes.contains(&note), there > 0, "{:?}", planned.notes);
                assert_eq!(planned.rollout.cohort.len(), 6, "all that are heard");
            }
        }
    }
}

/// While a rollback has not come to its end, what is stable by the record is what it takes away: no
/// way back leads there. It can be brought again, by waves.
#[test]
fn r12_what_a_rollback_takes_away_is_no_way_back() {
    use RolloutPhase as P;
    for phase in [P::Running, P::Aborted, P::Halted, P::Expired] {
        let mut facts = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, phase);
        facts.stable = Some(sample::release("1.2.0"));
        for version in ["1.2.0", "1.3.0"] {
            let rollout = forward(Policy::default(), &facts, version, &canary(0)).unwrap().rollout;
            rollout.check().unwrap();
            assert_eq!(rollout.direction, Direction::Forward);
            let versions = (rollout.from.unwrap().version, rollout.to.version);
            assert_eq!(versions, (sample::version("1.1.0"), sample::version(version)));
            assert!(rollout.waves.len() > 1, "{phase:?}");
        }
    }
    let mut done = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, P::Complete);
    done.stable = Some(sample::release("1.1.0"));
    let again = forward(Policy::default(), &done, "1.1.0", &canary(0));
    assert!(matches!(again, Err(PlanningError::Stable { .. })), "{again:?}");
    let next = forward(Policy::default(), &done, "1.3.0", &canary(0)).unwrap().rollout;
    assert_eq!(next.from.unwrap().version, sample::version("1.1.0"));
}

#[test]
fn the_version_before_is_told_or_has_to_be_said() {
    let (service, env) = ("web".parse().unwrap(), "production".parse().unwrap());
    let before = |facts: &Facts| version_before(facts, &service, &env);
    assert_eq!(before(&complete()).unwrap().version, sample::version("1.1.0"));
    let back = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, RolloutPhase::Complete);
    assert!(matches!(before(&back), Err(PlanningError::IsRollback { .. })));
    let first = sample::facts(None, "1.0.0", Direction::Forward, RolloutPhase::Complete);
    let next = |facts: &Facts| before(facts).unwrap_err().next().unwrap();
    assert!(next(&first).ends_with(" under a new version, and deploy that"), "{}", next(&first));
    let open = sample::facts(None, "1.1.0", Direction::Forward, RolloutPhase::Running);
    assert!(next(&open).contains(": swell abort "), "{}", next(&open));
    let nothing = Facts { head: None, ..complete() };
    assert!(matches!(before(&nothing), Err(PlanningError::NothingThere { .. })));
}

// --- what can never be ---

fn problems(policy: Policy, deploy: &Deploy) -> Vec<String> {
    match forward(policy, &complete(), "1.3.0", deploy) {
        Err(PlanningError::Impossible { problems }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn r15_what_can_never_end_is_refused_with_key_value_and_what_to_do() {
    let first = Stage { unreachable_max: Some(Share::Count(0)), ..Stage::new(1.0, 0) };
    let last = Stage { unreachable_max: Some(Share::Percent(50.0)), ..Stage::new(100.0, 0) };
    let mut deploy = Deploy { strategy: Strategy::Canary(vec![first, last]), ..canary(3) };
    let slots = "deploy.production.stages.1.unreachable_max = 50% (3 here): must be less than \
                 max_unavailable (3 here), since a silent host keeps its place in that, and hosts \
                 behind 3 of them would wait for ever; lower it, or raise max_unavailable";
    let approvals = "deploy.production.approvals = 3: must be 0 to 2, for 2 of the keys that hold \
                     approve:production are not yours; lower it, or give more people that role in \
                     the next root";
    assert_eq!(problems(Policy::default(), &deploy), [slots, approvals]);
    let policy = Policy { approvals_min: 4, ..Policy::default() };
    let told = &problems(policy, &deploy)[1];
    assert!(
        told.starts_with("environments.production.approvals_min (in root) = 4: must"),
        "{told}"
    );

    (deploy.approvals, deploy.max_unavailable) = (None, Some(Share::Percent(100.0)));
    let unreachable_max = Some(Share::Count(1));
    deploy.strategy = Strategy::Rolling {
        batch: Share::Percent(20.0),
        wait_s: 0,
        failed_max: None,
        unreachable_max,
    };
    let [batch] = &problems(Policy::default(), &deploy)[..] else { panic!("one problem") };
    let told = "deploy.production.unreachable_max = 1 (1 here): must be less than batch (1 here)";
    assert!(batch.starts_with(told), "{batch}");
}

/// What nobody wrote is no promise: it is told, not refused.
#[test]
fn a_default_that_is_not_kept_is_a_note() {
    let deploy = Deploy { max_unavailable: None, ..canary(0) };
    let planned = forward(Policy::default(), &complete(), "1.3.0", &deploy).unwrap();
    let note = "max_unavailable is 1 here: a host that falls silent half way would keep those \
                behind waiting";
    assert_eq!(planned.notes, [note]);
}

#[test]
fn each_setting_says_where_it_comes_from() {
    let policy = Policy { approvals_min: 1, stages_min: 2, bake_s_min: 30, ..Policy::default() };
    let stage = Stage { failed_max: Some(Share::Count(0)), ..Stage::new(1.0, 60) };
    let deploy = Deploy {
        strategy: Strategy::Canary(vec![stage, Stage::new(100.0, 0)]),
        approvals: None,
        max_unavailable: None,
        on_failure: Some(OnFailure::Pause),
        windows: Vec::new(),
        thresholds: Thresholds::default(),
    };
    let planned = forward(policy, &complete(), "1.3.0", &deploy).unwrap();
    let rows: Vec<_> = planned
        .settings
        .iter()
        .map(|row| (row.key, row.value.as_str(), row.origin, row.policy_min.as_deref()))
        .collect();
    use Origin::{Default as D, Policy as P, SwellToml as S, SwellTomlAndDefault as SD};
    assert_eq!(
        rows,
        [
            ("strategy", "canary, 2 stages", S, None),
            ("waves", "2", S, Some("2")),
            ("bakes", "1 min", S, Some("30 s")),
            ("approvals", "1", P, Some("1")),
            ("failed_max", "0 1", SD, None),
            ("unreachable_max", "0 1", D, None),
            ("max_unavailable", "1 host (25%)", D, None),
            ("on_failure", "pause", S, None),
        ]
    );
    let back = back(&complete(), "1.1.0").unwrap();
    assert!(back.settings.iter().all(|row| row.origin == Origin::Rollback));
}

/// R24: what `[health]` and the stages say stands in the rollout, wave by wave, where the release has
/// metrics; not in a rollback.
#[test]
fn r24_limits_of_requests_are_signed_where_there_are_metrics() {
    let stage = |weight, errors_ppm| Stage { errors_ppm, ..Stage::new(weight, 60) };
    // The first two stages are one host each, and so one wave: the stricter one counts.
    let stages = [stage(1.0, Some(5_000)), stage(10.0, Some(1_000)), stage(100.0, None)];
    let thresholds = Thresholds { p99_ratio_percent: Some(150), ..Thresholds::default() };
    let deploy = Deploy { strategy: Strategy::Canary(stages.to_vec()), thresholds, ..canary(0) };
    let plain = forward(Policy::default(), &complete(), "1.3.0", &deploy).unwrap();
    assert_eq!(plain.rollout.limits, None);

    let (id, mut release) = sample::release("1.3.0");
    release.health.metrics = Some("http://localhost/metrics".to_owned());
    release.health.warmup_s = 20;
    let (root, env) = (root(Policy::default()), "production".parse().unwrap());
    let planned =
        super::forward(&intent(&root, &env), &complete(), &(id, release), &deploy).unwrap();
    planned.rollout.check().unwrap();
    let limits = Limits {
        errors_ppm: vec![1_000, 10_000],
        requests_min: 100,
        warmup_s: 20,
        p99_ratio_percent: Some(150),
    };
    assert_eq!(planned.rollout.limits, Some(limits));
    let shown = |key| {
        let row = planned.settings.iter().find(|row| row.key == key).unwrap();
        (row.value.clone(), row.origin)
    };
    let expected = ("0.1 % 1 %".to_owned(), Origin::SwellTomlAndDefault);
    assert_eq!(shown("error_threshold"), expected);
    assert_eq!(shown("requests_min"), ("100".to_owned(), Origin::Default));
    assert_eq!(shown("p99_ratio_max"), ("1.5".to_owned(), Origin::SwellToml));
}

#[test]
fn a_rolling_rollout_is_one_wave_and_so_many_at_a_time() {
    let strategy = Strategy::Rolling {
        batch: Share::Percent(34.0),
        wait_s: 60,
        failed_max: Some(Share::Count(1)),
        unreachable_max: None,
    };
    let deploy = Deploy { strategy, ..canary(0) };
    let planned = forward(Policy::default(), &complete(), "1.3.0", &deploy).unwrap();
    let wave = Wave { hosts: 6, wait_s: 60, failed_max: 1, unreachable_max: 0 };
    planned.rollout.check().unwrap();
    assert_eq!((planned.rollout.waves, planned.rollout.in_flight_max), (vec![wave], Some(2)));
    assert_eq!(planned.settings[0].value, "rolling, batch 34%");
    assert_eq!(planned.times.promote_s, 3 * (10 + 60));
}

/// However many hosts there are, the text stays within some screens and the work grows no faster
/// than they do; the JSON has them all.
#[test]
fn ten_thousand_hosts_are_planned_and_told_in_some_screens() {
    let facts = Facts { hosts: sample::many(10_001, 300), ..complete() };
    let stages = [0.1, 1.0, 5.0, 25.0, 100.0].map(|weight| Stage::new(weight, 60));
    let deploy = Deploy { strategy: Strategy::Canary(stages.to_vec()), ..canary(0) };
    let begin = std::time::Instant::now();
    let planned = forward(Policy::default(), &facts, "1.3.0", &deploy).unwrap();
    let text = crate::render::plan::plan(&planned);
    let json = serde_json::to_string_pretty(&planned).unwrap();
    println!("10,000 hosts planned, as text and as JSON, in {} ms", begin.elapsed().as_millis());
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() <= 70, "{} lines", lines.len());
    let width = lines.iter().map(|line| line.chars().count()).max();
    assert!(width <= Some(180), "{width:?} columns");
    assert!(text.contains("wave 5: 7500 hosts (10000 of 10000)"), "{text}");
    assert!(text.contains("    294 more zones: 7349 hosts\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let (cohort, names) = (json["rollout"]["cohort"].as_array(), json["names"].as_object());
    assert_eq!(
        (cohort.map(Vec::len), names.map(serde_json::Map::len)),
        (Some(10_000), Some(10_000))
    );
    assert_eq!(json["left_out"][0]["why"], "silent");
}
