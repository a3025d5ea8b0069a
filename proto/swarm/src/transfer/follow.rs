//! What a peer holds of an artifact, heard until it is gone.

use std::convert::Infallible;

use net::Pool;
use proto::HostId;
use proto::statement::ArtifactRef;
use tokio::sync::mpsc;
use tokio::time;

use super::ask::{AskError, Holdings, Source};
use super::fetch::News;
use super::provide::HAVE_INTERVAL;
use crate::bits::Bits;

/// Why nothing more is heard from a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("its bitmap is not one of this artifact")]
    Malformed,
    #[error("the subscription ended")]
    Ended,
}

/// Reports what a peer holds of an artifact of so many pieces until it is gone.
pub(super) async fn follow(
    pool: Pool,
    of: Source,
    artifact: ArtifactRef,
    pieces: u32,
    news: mpsc::Sender<News>,
) {
    let why = match follow_on(&pool, &of, artifact, pieces, &news).await {
        Ok(never) => match never {},
        Err(why) => why,
    };
    // Nobody to tell: the fetch is over.
    let _ = news.send(News::Left { peer: of.host, why }).await;
}

async fn follow_on(
    pool: &Pool,
    of: &Source,
    artifact: ArtifactRef,
    pieces: u32,
    news: &mpsc::Sender<News>,
) -> Result<Infallible, Left> {
    let mut holdings = Holdings::ask(pool, of, artifact.id).await?;
    listen(&mut holdings, &of.host, pieces, news).await?;
    Err(AskError::from(holdings.lost().await).into())
}

/// A peer that says what it holds; in tests one that is not honest.
trait Says: Send {
    /// See [`Holdings::next`].
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, AskError>> + Send;
}

impl Says for Holdings {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, AskError> {
        Self::next(self).await
    }
}

/// Reports each bitmap, until it is one of all pieces.
async fn listen(
    says: &mut impl Says,
    peer: &HostId,
    pieces: u32,
    news: &mpsc::Sender<News>,
) -> Result<(), Left> {
    loop {
        let bitmap = says.next().await?.ok_or(Left::Ended)?;
        // Empty: not yet; it says so when that changes, or ends the stream.
        if !bitmap.is_empty() || pieces == 0 {
            let held = Bits::from_bytes(pieces, &bitmap).ok_or(Left::Malformed)?;
            let whole = held.is_all();
            if news.send(News::Holds { peer: peer.clone(), pieces: held }).await.is_err() {
                return Err(Left::Ended);
            }
            if whole {
                return Ok(());
            }
        }
        // An honest peer speaks half as often; one that floods is read no faster.
        time::sleep(HAVE_INTERVAL / 2).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tests::kit::host_id;

    const PIECES: u32 = 9;
    const LISTENED: Duration = Duration::from_secs(60);
    /// What may be read in that time.
    const READ_MAX: usize = (LISTENED.as_millis() / (HAVE_INTERVAL.as_millis() / 2)) as usize + 1;

    /// Says these in turn, without a pause and without end.
    struct Floods {
        bitmaps: Vec<Vec<u8>>,
        read: usize,
    }

    impl Says for Floods {
        async fn next(&mut self) -> Result<Option<Vec<u8>>, AskError> {
            let bitmap = self.bitmaps[self.read % self.bitmaps.len()].clone();
            self.read += 1;
            assert!(self.read <= READ_MAX, "it is read as fast as it speaks");
            Ok(Some(bitmap))
        }
    }

    impl Floods {
        fn with(bitmaps: Vec<Vec<u8>>) -> Self {
            Self { bitmaps, read: 0 }
        }
    }

    /// How many of such bitmaps are read, and how many of these reported.
    async fn listened_to(bitmaps: Vec<Vec<u8>>) -> (usize, usize) {
        let (news, mut heard) = mpsc::channel(READ_MAX);
        let (mut says, peer) = (Floods::with(bitmaps), host_id("floods"));
        let ended = time::timeout(LISTENED, listen(&mut says, &peer, PIECES, &news)).await;
        assert!(ended.is_err(), "it is listened to on: {ended:?}");
        drop(news);
        let mut reported = 0;
        while heard.recv().await.is_some() {
            reported += 1;
        }
        (says.read, reported)
    }

    #[tokio::test(start_paused = true)]
    async fn r4_a_peer_that_floods_is_read_no_faster_than_others_speak() {
        let (nothing, none) = (Vec::new(), Bits::none(PIECES).as_bytes().to_vec());
        let (read, reported) = listened_to(vec![nothing.clone()]).await;
        assert!(read > READ_MAX / 2, "it may come to hold something: {read}");
        assert_eq!(reported, 0, "of nothing there is nothing to say");
        let mut some = Bits::none(PIECES);
        some.insert(3);
        let some = some.as_bytes().to_vec();
        for bitmaps in [vec![none.clone()], vec![some.clone()], vec![nothing, none, some]] {
            let empty = bitmaps.iter().filter(|bitmap| bitmap.is_empty()).count();
            let turns = bitmaps.len();
            let (read, reported) = listened_to(bitmaps).await;
            assert!(read > READ_MAX / 2, "{read}");
            assert!(reported.abs_diff(read * (turns - empty) / turns) <= 1, "{reported} of {read}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r4_a_bitmap_of_another_length_ends_it_and_one_of_all_is_the_last() {
        let peer = host_id("one");
        let (news, mut heard) = mpsc::channel(1);
        let ended = listen(&mut Floods::with(vec![vec![0xff; 3]]), &peer, PIECES, &news).await;
        assert!(matches!(ended, Err(Left::Malformed)), "{ended:?}");
        let mut whole = Floods::with(vec![Bits::all(PIECES).as_bytes().to_vec()]);
        listen(&mut whole, &peer, PIECES, &news).await.unwrap();
        assert_eq!(whole.read, 1);
        assert!(matches!(heard.recv().await, Some(News::Holds { pieces, .. }) if pieces.is_all()));
    }
}
