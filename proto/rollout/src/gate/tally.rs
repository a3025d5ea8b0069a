//! What decisions ask of the hosts of a cohort, as marks, and how many hosts have each.
//!
//! A [`Mark`] is the definition: decisions count the hosts that have it, by rank or in a zone.
//! [`Counts`] keeps these numbers while marks change, so that who decides often does not go through
//! the cohort each time; debug builds do it all the same, and compare.

use std::ops::{Index, Range};
use std::sync::Arc;

use proto::certificate;
use proto::receipt::State;
use proto::statement::{COHORT_MAX, CohortHost};

use super::{Count, Heard, Sight};

/// Something that decisions ask of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    // Where it counts ([`Count`]): each host has exactly one of these.
    Committed,
    Failed,
    Skipped,
    Unheard,
    Baking,
    Activating,
    Waiting,
    Unsure,
    Returned,
    /// It has not come to its end, and is not excused.
    Open,
    /// The same, and it may be heard.
    Awaited,
    /// It serves `to`, by what it said last.
    Serves,
    /// It may catch up with a complete rollout: it may be heard, and has not come to rest.
    InLane,
    /// Its service may be stopped (R15), and it is not excused.
    Unsettled,
    /// It may have to go back, and can be waited for.
    NotBack,
    /// The same, for what an older rollout brought.
    NotLeft,
}

const MARKS: usize = Mark::NotLeft as usize + 1;

/// The marks of a host, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// Those of a host that is seen like this.
    pub fn of(sight: Sight, excused: bool) -> Self {
        let Sight { standing, heard } = sight;
        let state = standing.map(|(state, _)| state);
        let silent = heard == Heard::Silent;
        let committed = state == Some(State::Committed);
        let failed = state.is_some_and(State::is_failed);
        let open = !excused && !standing.is_some_and(certificate::has_ended);
        let others = [
            (Mark::Open, open),
            (Mark::Awaited, open && !silent),
            (Mark::Serves, committed),
            (Mark::InLane, !silent && !committed && !failed),
            (Mark::Unsettled, !excused && !state.is_some_and(State::is_settled)),
            (Mark::NotBack, !silent && !failed),
            (Mark::NotLeft, !silent && state.is_none_or(|s| s == State::Pending)),
        ];
        let bit = |(mark, set): (Mark, bool)| u16::from(set) << mark as u8;
        Self(
            others
                .into_iter()
                .map(bit)
                .fold(1 << place(sight, excused) as u8, |all, one| all | one),
        )
    }

    pub const fn has(self, mark: Mark) -> bool {
        self.0 & (1 << mark as u8) != 0
    }
}

/// Where a host counts.
fn place(Sight { standing, heard }: Sight, excused: bool) -> Mark {
    match standing {
        // A failure is for ever: it needs no fresh receipt.
        Some(standing) if certificate::is_failure(standing) => Mark::Failed,
        // Nobody waits to hear of it, so what it said last stands.
        Some((State::Committed, _)) if excused => Mark::Committed,
        _ if excused => Mark::Skipped,
        _ if heard == Heard::Silent => Mark::Unheard,
        None => Mark::Waiting,
        Some((state, _)) => match state {
            State::Pending | State::Fetching | State::Staged => Mark::Waiting,
            _ if heard == Heard::Unsure => Mark::Unsure,
            State::Activating => Mark::Activating,
            State::Baking => Mark::Baking,
            State::Committed => Mark::Committed,
            State::Reverted | State::RevertFailed => Mark::Returned,
        },
    }
}

/// How many hosts have each mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally([u16; MARKS]);

const _: () = assert!(COHORT_MAX <= u16::MAX as usize, "a number in a tally is that of hosts");

impl Tally {
    /// One host comes to have other marks. Numbers wrap while a sum is made up of its parts.
    fn change(&mut self, before: Marks, after: Marks) {
        for (lane, number) in self.0.iter_mut().enumerate() {
            let has = |marks: Marks| u16::from(marks.0 & (1 << lane) != 0);
            *number = number.wrapping_add(has(after)).wrapping_sub(has(before));
        }
    }

    fn add(&mut self, more: &Self) {
        for (number, more) in self.0.iter_mut().zip(more.0) {
            *number = number.wrapping_add(more);
        }
    }

    fn sub(&mut self, less: &Self) {
        for (number, less) in self.0.iter_mut().zip(less.0) {
            *number = number.wrapping_sub(less);
        }
    }
}

impl FromIterator<Marks> for Tally {
    fn from_iter<I: IntoIterator<Item = Marks>>(hosts: I) -> Self {
        let mut tally = Self::default();
        for marks in hosts {
            tally.change(Marks::default(), marks);
        }
        tally
    }
}

impl Index<Mark> for Tally {
    type Output = u16;

    fn index(&self, mark: Mark) -> &u16 {
        &self.0[mark as usize]
    }
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        let of = |mark| usize::from(tally[mark]);
        let mut count = Self {
            hosts: 0,
            committed: of(Mark::Committed),
            failed: of(Mark::Failed),
            skipped: of(Mark::Skipped),
            unheard: of(Mark::Unheard),
            baking: of(Mark::Baking),
            activating: of(Mark::Activating),
            waiting: of(Mark::Waiting),
            unsure: of(Mark::Unsure),
            returned: of(Mark::Returned),
        };
        let places = &tally.0[..=Mark::Returned as usize];
        count.hosts = places.iter().map(|number| usize::from(*number)).sum();
        count
    }
}

// --- kept ---

/// The marks of a cohort, counted by rank and in each zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    zones: Arc<Zones>,
    by_rank: Tree,
    by_zone: Tree,
}

/// The cohort zone by zone, each in the order of ranks.
#[derive(Debug, PartialEq, Eq)]
struct Zones {
    /// By rank: its place in that order, and the places of its zone.
    places: Vec<(u32, Range<u32>)>,
    /// By place: the rank.
    ranks: Vec<u32>,
}

impl Counts {
    /// Of a cohort; no host has a mark yet.
    pub fn new(cohort: &[CohortHost]) -> Self {
        let tree = Tree::new(cohort.len());
        Self { zones: Arc::new(Zones::of(cohort)), by_rank: tree.clone(), by_zone: tree }
    }

    /// The host with this rank has these marks from now on.
    pub fn set(&mut self, rank: usize, marks: Marks) {
        self.by_rank.set(rank, marks);
        self.by_zone.set(self.zones.places[rank].0 as usize, marks);
    }

    /// The hosts with these ranks.
    pub fn tally(&self, ranks: Range<usize>) -> Tally {
        let mut tally = self.by_rank.below(ranks.end);
        tally.sub(&self.by_rank.below(ranks.start));
        tally
    }

    /// The lower-ranked hosts of the same zone.
    fn before(&self, rank: usize) -> Tally {
        let (place, zone) = &self.zones.places[rank];
        let mut tally = self.by_zone.below(*place as usize);
        tally.sub(&self.by_zone.below(zone.start as usize));
        tally
    }

    /// The higher-ranked hosts of the same zone with this mark, the highest first.
    fn behind(&self, rank: usize, mark: Mark) -> impl Iterator<Item = usize> {
        let (place, zone) = &self.zones.places[rank];
        let behind = (*place as usize + 1..zone.end as usize).rev();
        let marked = behind.filter(move |place| self.by_zone.marks[*place].has(mark));
        marked.map(|place| self.zones.ranks[place] as usize)
    }
}

impl Zones {
    fn of(cohort: &[CohortHost]) -> Self {
        let zone = |rank: &u32| &cohort[*rank as usize].zone;
        let mut ranks: Vec<u32> = (0..).take(cohort.len()).collect();
        ranks.sort_by_key(zone);
        let mut places = vec![(0, 0..0); cohort.len()];
        let mut start = 0;
        for same in ranks.chunk_by(|one, other| zone(one) == zone(other)) {
            let end = start + u32::try_from(same.len()).unwrap_or(u32::MAX);
            for (place, rank) in (start..end).zip(same) {
                places[*rank as usize] = (place, start..end);
            }
            start = end;
        }
        Self { places, ranks }
    }
}

/// Hosts whose marks are counted one by one; those of whole blocks are summed up.
const BLOCK: usize = 16;

/// Marks in an order, with the numbers of those before a place: a Fenwick tree over blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    marks: Vec<Marks>,
    /// Node `n`, 1 first, sums up as many blocks, up to the `n`th, as its lowest bit says.
    sums: Vec<Tally>,
}

impl Tree {
    fn new(hosts: usize) -> Self {
        let sums = vec![Tally::default(); hosts / BLOCK];
        Self { marks: vec![Marks::default(); hosts], sums }
    }

    fn set(&mut self, place: usize, marks: Marks) {
        let before = std::mem::replace(&mut self.marks[place], marks);
        let mut node = place / BLOCK + 1;
        while before != marks && node <= self.sums.len() {
            self.sums[node - 1].change(before, marks);
            node += 1 << node.trailing_zeros();
        }
    }

    /// The hosts before this place.
    fn below(&self, end: usize) -> Tally {
        let end = end.min(self.marks.len());
        let mut node = end / BLOCK;
        let mut tally: Tally = self.marks[node * BLOCK..end].iter().copied().collect();
        while node > 0 {
            tally.add(&self.sums[node - 1]);
            node &= node - 1;
        }
        tally
    }
}

/// The counts as one host has them: of itself it knows best.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    pub counts: &'a Counts,
    /// Its rank, if it is in the cohort, and its marks.
    pub own: Option<(usize, Marks)>,
}

impl<'a> Counted<'a> {
    /// The hosts with these ranks.
    pub(super) fn tally(&self, ranks: Range<usize>) -> Tally {
        let mut tally = self.counts.tally(ranks.clone());
        if let Some((rank, marks)) = self.own.filter(|(rank, _)| ranks.contains(rank)) {
            tally.change(self.counts.by_rank.marks[rank], marks);
        }
        tally
    }

    /// The lower-ranked hosts of the zone of the one with this rank, which asks.
    pub(super) fn before(&self, rank: usize) -> Tally {
        self.counts.before(rank)
    }

    /// The higher-ranked hosts of the zone of the one with this rank, which asks, that have this mark:
    /// the highest first.
    pub(super) fn behind(&self, rank: usize, mark: Mark) -> impl Iterator<Item = usize> + use<'a> {
        self.counts.behind(rank, mark)
    }
}
