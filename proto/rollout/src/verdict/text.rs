//! What people read of a verdict: what was compared, and how it came out.

use std::fmt;

use super::{Comparison, Counted, Signal, Verdict};

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(comparison) => write!(f, "not worse: {comparison}"),
            Self::Quiet { new, needed } => write!(
                f,
                "too quiet to compare, {new} of {needed} requests: health checks alone count"
            ),
            Self::Fail(comparison) => write!(f, "worse: {comparison}"),
            Self::Fresh(comparison) => {
                write!(f, "inconclusive: worse only since the last looks: {comparison}")
            }
            Self::Starved { new, needed, .. } => write!(
                f,
                "inconclusive: {new} of {needed} requests reached the new release, and the old one \
                 has traffic"
            ),
            Self::Shared { comparison, of: 0, .. } => {
                write!(f, "inconclusive: shared while the old release ran: {comparison}")
            }
            Self::Shared { comparison, hosts, of } => write!(
                f,
                "inconclusive: shared by {hosts} of {of} hosts on the old release: {comparison}"
            ),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, new, control, above_ppm, z_milli } = self;
        match signal {
            Signal::Errors => write!(f, "errors {new}")?,
            Signal::SlowerThan { ms } => write!(f, "answers over {ms} ms {new}")?,
        }
        let above = f64::from(*above_ppm) / 1e4;
        match control {
            Some(control) => write!(f, ", old release {control}, at most {above} % above it")?,
            None => write!(f, ", nobody to compare with, at most {above} %")?,
        }
        let (sign, z_milli) = (if *z_milli < 0 { "-" } else { "" }, z_milli.unsigned_abs());
        write!(f, " (z {sign}{}.{})", z_milli / 1_000, z_milli % 1_000 / 100)
    }
}

impl fmt::Display for Counted {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.bad as f64 / (self.of.max(1)) as f64;
        write!(f, "{percent:.2} % of {}", self.of)
    }
}
