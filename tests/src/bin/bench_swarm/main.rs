//! `./scripts/bench-swarm`: how fast one file gets to a fleet, beside what people use today.
//!
//! One origin and N-1 hosts, each in a network namespace of its own with the same rate in both
//! directions. Every tool gets the same file, one after the other in the same run; the clock starts when
//! all processes stand ready, and stops when the last host has it whole and verified. Needs root.
//!
//! ```text
//! bench_swarm [--hosts N] [--rate MBIT] [--size MIB] [--delay MS] [--loss PCT]
//!             [--slow HOST:MBIT]... [--runs N] [--only TOOL]
//! ```
//!
//! What it prints is in multiples of what physics allows, F the file, u the rate, N hosts
//! (Mundinger, Weber, Weiss: Optimal scheduling of peer-to-peer file dissemination, 2008; the last term
//! is how long it takes until everybody has something to send, in pieces of F/256):
//!
//! ```text
//! bound = max(F/u, (N-1) F / (N u)) + floor(log2(N-1)) F / (256 u)
//! ```
//!
//! Packet headers are not in it: with TCP and an MTU of 1500 the best possible is 1.05.

mod lan;
mod node;
mod report;
mod run;
mod stop;
mod switch;
mod tool;
mod wire;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use lan::Rates;
use tool::Tool;
use wire::Distance;

/// What to measure.
struct Options {
    /// The origin among them.
    hosts: usize,
    rates: Rates,
    /// None: hosts are as near to each other as on a bridge.
    distance: Option<Distance>,
    size_mib: usize,
    runs: usize,
    tools: Vec<Tool>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "node" => node::run(rest),
        _ => Options::parse(&arguments).and_then(|options| measure(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-swarm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let (mut hosts, mut rate, mut size_mib, mut runs) = (8, 100, 64, 3);
        let (mut slow, mut tools) = (Vec::new(), Tool::ALL.to_vec());
        let (mut delay_ms, mut loss_pct) = (None, None);
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            let number = |least: usize, most: usize| -> Result<usize> {
                let number = value.parse().with_context(|| format!("{name} {value}"))?;
                ensure!((least..=most).contains(&number), "{name} is {least} to {most}");
                Ok(number)
            };
            match name.as_str() {
                "--hosts" => hosts = number(2, 100)?,
                "--rate" => rate = number(1, 10_000)?,
                "--size" => size_mib = number(1, 4_096)?,
                "--runs" => runs = number(1, 100)?,
                "--delay" => delay_ms = Some(number(0, 1_000)?),
                "--loss" => {
                    let pct = value.parse().with_context(|| format!("{name} {value}"))?;
                    ensure!((0.0..=50.0).contains(&pct), "{name} is 0 to 50");
                    loss_pct = Some(pct);
                }
                "--slow" => {
                    let (host, mbit) = value.split_once(':').context("--slow is HOST:MBIT")?;
                    slow.push((host.parse().context("--slow")?, mbit.parse().context("--slow")?));
                }
                "--only" => tools = vec![Tool::named(value)?],
                _ => bail!(
                    "unknown: {name}. There are --hosts, --rate, --size, --delay, --loss, --slow, --runs, \
                     --only"
                ),
            }
        }
        let distance = (delay_ms.is_some() || loss_pct.is_some()).then(|| Distance {
            delay_ms: delay_ms.unwrap_or(0),
            loss_pct: loss_pct.unwrap_or(0.0),
        });
        Ok(Self { hosts, rates: Rates { mbit: rate, slow }, distance, size_mib, runs, tools })
    }
}

fn measure(options: &Options) -> Result<()> {
    stop::listen()?;
    lan::sweep();
    let payload = run::Payload::of_noise(options.size_mib)?;
    println!(
        "{} hosts at {} Mbit/s{}{}, {} MiB; at best {:.2} s",
        options.hosts,
        options.rates.mbit,
        options.rates.slow_words(),
        options.distance.map_or_else(String::new, |distance| format!(", {distance}")),
        options.size_mib,
        report::bound_s(options.hosts, options.rates.mbit, payload.bytes()),
    );
    for tool in &options.tools {
        if let Some(missing) = tool.missing() {
            println!("{}: not measured, {missing}", tool.name());
            continue;
        }
        let measured: Result<Vec<_>> =
            (0..options.runs).map(|_| run::run(*tool, options, &payload)).collect();
        let measured = measured.with_context(|| tool.name().to_owned())?;
        for one in &measured {
            println!("{}", one.row(*tool));
        }
        println!(
            "{}",
            report::Measured::median(measured).line(*tool, options.hosts, options.distance)
        );
    }
    Ok(())
}
