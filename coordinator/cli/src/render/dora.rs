//! The five measures of DORA as text: each with how many it stands on, and what is not known.

use proto::dora::{DoraMeasures, DoraReport, DoraShare, DoraTimes};

use super::table;
use crate::span;

/// By which clock, and how exactly: it stands below the numbers.
const RESOLUTION: &str = "
Ends are by the coordinator's clock: when their proof came there, or when it first saw them, 2 s late at
most. Commit times are as the publisher gave them.
";

/// `swell dora`.
pub(crate) fn dora(report: &DoraReport) -> String {
    let DoraReport { service, env, window, weeks } = report;
    let mut text = format!(
        "{service} in {env}, {}: {} to {} UTC\n\n",
        span::count(window.days as usize, "day"),
        window.from,
        window.until
    );
    let frequency = window.deployment_frequency;
    let per_week = f64::from(frequency.deployments) * 7.0 / f64::from(window.days.max(1));
    let days = span::count(frequency.days_with_one as usize, "day");
    let rows = [
        row("deployment frequency", format!("{per_week:.1} per week, on {days}"), {
            span::count(frequency.deployments as usize, "deployment")
        }),
        row("change lead time", times(window.change_lead_time), {
            measured(window.change_lead_time, "without a commit time")
        }),
        row("change fail rate", share(window.change_fail_rate), {
            of(window.change_fail_rate, "deployments")
        }),
        row("failed deployment recovery time", times(window.failed_deployment_recovery_time), {
            measured(window.failed_deployment_recovery_time, "not recovered yet")
        }),
        row("rework rate", share(window.rework_rate), {
            of(window.rework_rate, "deployments and rollbacks")
        }),
    ];
    text.push_str(&table(["MEASURE", "VALUE", "OF"], &rows));
    if !weeks.is_empty() {
        let header = ["WEEK FROM", "DEPLOYMENTS", "LEAD p50", "FAILED", "RECOVERY p50", "REWORK"];
        let rows: Vec<_> = weeks.iter().map(week).collect();
        text.push('\n');
        text.push_str(&table(header, &rows));
    }
    text.push_str(RESOLUTION);
    text
}

fn row(measure: &str, value: String, of: String) -> [String; 3] {
    [measure.to_owned(), value, of]
}

fn week(week: &DoraMeasures) -> [String; 6] {
    let p50 = |times: DoraTimes| times.p50_s.map_or_else(|| "-".to_owned(), span::show);
    let parts = |share: DoraShare| match share.of {
        0 => "-".to_owned(),
        of => format!("{} of {of}", share.n),
    };
    [
        week.from.to_string().chars().take(10).collect(),
        week.deployment_frequency.deployments.to_string(),
        p50(week.change_lead_time),
        parts(week.change_fail_rate),
        p50(week.failed_deployment_recovery_time),
        parts(week.rework_rate),
    ]
}

fn times(times: DoraTimes) -> String {
    match (times.p50_s, times.p90_s) {
        (Some(p50_s), Some(p90_s)) => {
            format!("p50 {}, p90 {}", span::show(p50_s), span::show(p90_s))
        }
        _ => "unknown".to_owned(),
    }
}

fn measured(times: DoraTimes, lacks: &str) -> String {
    match times.unknown {
        0 => times.n.to_string(),
        unknown => format!("{}, {unknown} {lacks}", times.n),
    }
}

fn share(share: DoraShare) -> String {
    match share.of {
        0 => "unknown".to_owned(),
        of => format!("{:.1} %", 100.0 * f64::from(share.n) / f64::from(of)),
    }
}

fn of(share: DoraShare, what: &str) -> String {
    format!("{} of {} {what}", share.n, share.of)
}

#[cfg(test)]
mod tests {
    use proto::dora::DoraFrequency;

    use super::*;
    use crate::render::sample::CREATED;

    fn measures(days: u32, n: u32) -> DoraMeasures {
        let times = |unknown| DoraTimes {
            n,
            unknown,
            p50_s: (n > 0).then_some(5_400),
            p90_s: (n > 0).then_some(86_400),
        };
        DoraMeasures {
            from: CREATED,
            until: CREATED.plus_s(u64::from(days) * 86_400),
            days,
            deployment_frequency: DoraFrequency { deployments: n, days_with_one: n },
            change_lead_time: times(2),
            change_fail_rate: DoraShare { n: 1, of: n },
            failed_deployment_recovery_time: times(0),
            rework_rate: DoraShare { n: 2, of: n },
        }
    }

    #[test]
    fn each_measure_says_how_many_it_stands_on_and_what_is_not_known() {
        let report = DoraReport {
            service: "web".parse().unwrap(),
            env: "production".parse().unwrap(),
            window: measures(14, 8),
            weeks: vec![measures(7, 0)],
        };
        assert_eq!(
            dora(&report),
            "web in production, 14 days: 2027-01-15 08:00:00 to 2027-01-29 08:00:00 UTC\n\n\
             MEASURE                          VALUE                    OF\n\
             deployment frequency             4.0 per week, on 8 days  8 deployments\n\
             change lead time                 p50 1 h 30 min, p90 1 d  8, 2 without a commit time\n\
             change fail rate                 12.5 %                   1 of 8 deployments\n\
             failed deployment recovery time  p50 1 h 30 min, p90 1 d  8\n\
             rework rate                      25.0 %                   2 of 8 deployments and \
             rollbacks\n\n\
             WEEK FROM   DEPLOYMENTS  LEAD p50  FAILED  RECOVERY p50  REWORK\n\
             2027-01-15  0            -         -       -             -\n"
                .to_owned()
                + RESOLUTION
        );
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        let report = DoraReport {
            service: "web".parse().unwrap(),
            env: "production".parse().unwrap(),
            window: measures(1, 0),
            weeks: Vec::new(),
        };
        let text = dora(&report);
        assert_eq!(text.matches("unknown").count(), 4, "{text}");
        assert!(text.contains("0.0 per week, on 0 days"), "{text}");
    }
}
