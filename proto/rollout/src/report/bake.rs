//! How long the bake of a wave lasts still: by the signed time and what the member saw of its hosts.

use proto::UnixTime;
use proto::receipt::State;
use proto::report::{BakeReport, StandingReport};

/// Of the hosts of a wave that bake now, the last one. `bake_s`: how long each bakes; `baked_ms`: for how long
/// one has, as far as its beginning was seen; `now`: none while the time stands still. None: nobody bakes, it
/// is over, or it is not known of each.
pub(super) fn left<'a>(
    hosts: impl Iterator<Item = &'a StandingReport>,
    bake_s: u32,
    baked_ms: &dyn Fn(&StandingReport) -> Option<u64>,
    now: Option<UnixTime>,
) -> Option<BakeReport> {
    let bake_ms = u64::from(bake_s) * 1_000;
    let bakes = hosts.filter(|host| host.state == Some(State::Baking));
    let left = bakes.map(|host| Some(bake_ms.saturating_sub(baked_ms(host)?)));
    let left_ms = left.collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let left_s = u32::try_from(left_ms.div_ceil(1_000)).ok().filter(|left_s| *left_s > 0)?;
    Some(BakeReport { left_s, until: now.map(|now| now.plus_s(left_s.into())) })
}
