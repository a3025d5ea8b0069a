//! Runs the simulation over fresh seeds: the command behind `./scripts/simulate`.
//!
//! A seed that breaks a promise is printed with the command that replays it, and the run goes on. The
//! last line is always `simulate: seeds=N per_second=N violations=N transitions=TAKEN/ALL`.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleet_tests::layer::{Case, LAYERS, Layer};
use rollout::host::{TRANSITIONS, Taken};

const USAGE: &str = "usage: simulate --minutes M [--layer LAYER|all] [--seed S] [--hosts N]

  --minutes M   run fresh seeds for this long (a fraction is fine); default 1
  --layer L     which layer; default all
  --seed S      run this one seed instead and tell what happened
  --hosts N     hosts of the fleets, 2000 at most; default: as each seed has it

\"transitions\" counts the changes of a host's state that some seed led to, of all those that are
legal; \"never taken\" names the others: this run says nothing about them, longer ones take more.";

struct Args {
    minutes: f64,
    layers: Vec<Layer>,
    seed: Option<u64>,
    hosts: Option<usize>,
}

/// What all threads have seen so far.
#[derive(Default)]
struct Tally {
    seeds: u64,
    violations: u64,
    taken: Taken,
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("simulate: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A violation is printed with its seed, by the thread that found it.
    panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let tally = match args.seed {
        Some(seed) => {
            let tally = Mutex::new(Tally::default());
            for layer in &args.layers {
                try_one(*layer, Case { seed, hosts: args.hosts, told: true }, &tally);
            }
            tally.into_inner().expect("no thread panics")
        }
        None => run_fresh(&args, start),
    };
    report(&tally, start.elapsed(), args.seed.is_none());
    if tally.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args { minutes: 1.0, layers: LAYERS.to_vec(), seed: None, hosts: None };
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag}: a value is missing"))?;
        let bad = |what: &str| format!("{flag} {value}: must be {what}");
        match flag.as_str() {
            "--minutes" => {
                let minutes = value.parse().ok().filter(|minutes| *minutes > 0.0);
                parsed.minutes = minutes.ok_or_else(|| bad("a number above 0"))?;
            }
            "--seed" => parsed.seed = Some(value.parse().map_err(|_| bad("a number"))?),
            "--hosts" => {
                let hosts = value.parse().ok().filter(|hosts| (1..=2_000).contains(hosts));
                parsed.hosts = Some(hosts.ok_or_else(|| bad("1 to 2000"))?);
            }
            "--layer" if value == "all" => parsed.layers = LAYERS.to_vec(),
            "--layer" => {
                let found = LAYERS.iter().find(|layer| layer.name == value);
                let names = LAYERS.iter().map(|layer| layer.name).collect::<Vec<_>>().join(", ");
                parsed.layers = vec![*found.ok_or_else(|| bad(&format!("all or one of {names}")))?];
            }
            _ => return Err(format!("{flag}: no such option")),
        }
    }
    Ok(parsed)
}

/// Fresh seeds on every core, layers taking turns, until the time is over.
fn run_fresh(args: &Args, start: Instant) -> Tally {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to type; no two runs within a millisecond.
    let base = u64::try_from(since.as_millis()).unwrap_or(0) % 100_000_000_000 * 1_000;
    println!("simulate: seeds from {base}");
    let end = start + Duration::from_secs_f64(args.minutes * 60.0);
    let turns = |layer: &Layer| std::iter::repeat_n(*layer, layer.turns);
    let round: Vec<Layer> = args.layers.iter().flat_map(turns).collect();
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let case = Case { seed: base + number, hosts: args.hosts, told: false };
                    let turn = usize::try_from(number).expect("few seeds") % round.len();
                    try_one(round[turn], case, &tally);
                }
            });
        }
    });
    tally.into_inner().expect("no thread panics")
}

/// Runs a case and counts what came of it; says how to run it again if a promise was broken.
fn try_one(layer: Layer, case: Case, tally: &Mutex<Tally>) {
    let result = panic::catch_unwind(AssertUnwindSafe(|| (layer.run)(&case)));
    let mut tally = tally.lock().expect("no thread panics");
    tally.seeds += 1;
    match result {
        Ok(taken) => tally.taken.join(taken),
        Err(panic) => {
            tally.violations += 1;
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            println!("violation in layer {}, {text}", layer.name);
            let hosts = case.hosts.map_or_else(String::new, |hosts| format!(" --hosts {hosts}"));
            let Case { seed, .. } = case;
            println!("  again: ./scripts/simulate --layer {} --seed {seed}{hosts}", layer.name);
        }
    }
}

/// Says which changes of state nothing has led to, and closes with the line that is read by scripts.
fn report(tally: &Tally, took: Duration, many: bool) {
    for row in tally.taken.missing().filter(|_| many) {
        println!("never taken: {} -> {}: {}", row.from.name(), row.to.name(), row.when);
    }
    println!(
        "simulate: seeds={} per_second={:.1} violations={} transitions={}/{}",
        tally.seeds,
        tally.seeds as f64 / took.as_secs_f64(),
        tally.violations,
        tally.taken.count(),
        TRANSITIONS.len()
    );
}
