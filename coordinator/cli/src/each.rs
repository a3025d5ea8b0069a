//! The same of many, so many at a time.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

/// Hosts that are asked at a time for something short.
pub(crate) const ASKED_AT_ONCE_MAX: usize = 16;

/// What `ask` makes of each, in their order, so many at a time.
pub(crate) async fn each<T, R, F>(at_once_max: usize, all: Vec<T>, ask: impl Fn(T) -> F) -> Vec<R>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let (mut waiting, mut under_way) = (all.into_iter().enumerate(), JoinSet::new());
    let mut answers = BTreeMap::new();
    loop {
        while under_way.len() < at_once_max
            && let Some((place, one)) = waiting.next()
        {
            let answer = ask(one);
            under_way.spawn(async move { (place, answer.await) });
        }
        match under_way.join_next().await {
            Some(Ok((place, answer))) => drop(answers.insert(place, answer)),
            Some(Err(error)) => tracing::error!(%error, "asking a host failed"),
            None => return answers.into_values().collect(),
        }
    }
}
