//! A batch: all complete queries of what was read, answered together.

use super::framer::{Framer, LENGTH_OCTETS};
use crate::dns::answer::Verdict;

/// The longest message, in octets.
const MESSAGE_OCTETS_MAX: usize = 65_535;
/// Octets of replies that are written together. Whatever there is, one more reply of any size fits until they are written.
const REPLIES_OCTETS: usize = 2 * (LENGTH_OCTETS + MESSAGE_OCTETS_MAX);

/// Replies that wait to be written, each with its length before it.
pub(super) struct Replies {
    octets: Box<[u8]>,
    len: usize,
}

/// Why a batch ends.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Pause {
    /// All complete queries are answered.
    NeedsInput,
    /// The replies have to be written before there is room for more.
    Full,
    /// The next query is for a transfer.
    Transfer(Vec<u8>),
    /// What came is no DNS.
    Broken,
}

impl Replies {
    pub(super) fn new() -> Replies {
        Replies { octets: vec![0; REPLIES_OCTETS].into(), len: 0 }
    }

    /// What is to be written.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Where the next reply goes; nothing when it might not fit.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.len + LENGTH_OCTETS;
        self.octets.get_mut(start..start + MESSAGE_OCTETS_MAX)
    }

    /// Takes the first `octets` of [`Replies::room`] as a reply.
    fn push(&mut self, octets: usize) {
        self.octets[self.len..self.len + LENGTH_OCTETS].copy_from_slice(&(octets as u16).to_be_bytes());
        self.len += LENGTH_OCTETS + octets;
    }
}

/// Answers query after query of what is held and of `input`. How many there were is added to `queries`.
pub(super) fn answer_all(
    framer: &mut Framer,
    input: &mut &[u8],
    replies: &mut Replies,
    queries: &mut usize,
    mut answer: impl FnMut(&[u8], &mut [u8]) -> Verdict,
) -> Pause {
    loop {
        let Some(room) = replies.room() else { return Pause::Full };
        let query = match framer.next(input) {
            Ok(Some(query)) => query,
            Ok(None) => return Pause::NeedsInput,
            Err(_) => return Pause::Broken,
        };
        *queries += 1;
        match answer(query, room) {
            Verdict::Reply(reply) => replies.push(reply.len),
            Verdict::Drop => {}
            Verdict::Transfer => return Pause::Transfer(query.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::reply::Reply;

    /// Takes `d` for a transfer, answers nothing to `x`, and to everything else as many octets as its first says,
    /// times 1,000; at most 65,535.
    fn answer(query: &[u8], out: &mut [u8]) -> Verdict {
        match query {
            [b'd', ..] => Verdict::Transfer,
            [b'x', ..] => Verdict::Drop,
            _ => {
                let len = (usize::from(query[0]) * 1000).min(out.len());
                out[..len].fill(query[0]);
                Verdict::Reply(Reply {
                    len,
                    code: crate::wire::Rcode::NOERROR,
                    is_truncated: false,
                    has_good_cookie: false,
                })
            }
        }
    }

    fn run(framer: &mut Framer, mut input: &[u8], replies: &mut Replies) -> (Pause, usize) {
        let mut queries = 0;
        let pause = answer_all(framer, &mut input, replies, &mut queries, answer);
        framer.keep(input);
        (pause, queries)
    }

    #[test]
    fn all_queries_of_one_read_are_answered_together_in_order() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        let stream = [&[0, 1, 2][..], &[0, 1, 1].repeat(49), &[0, 1, b'x', 0]].concat();
        assert_eq!(run(&mut framer, &stream, &mut replies), (Pause::NeedsInput, 51));
        assert_eq!(replies.octets().len(), 2002 + 49 * 1002);
        assert_eq!(replies.octets()[..3], [7, 208, 2]);
        assert_eq!(replies.octets()[2002..2005], [3, 232, 1]);
        assert_eq!(framer.held(), 1);
    }

    #[test]
    fn a_batch_stops_when_the_next_reply_might_not_fit_and_goes_on_after_it_is_written() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        let stream = [0, 1, 66].repeat(4);
        assert_eq!(run(&mut framer, &stream, &mut replies), (Pause::Full, 2));
        assert_eq!(replies.octets().len(), 2 * 65_537);
        replies.clear();
        assert_eq!(run(&mut framer, &[], &mut replies), (Pause::Full, 2));
    }

    #[test]
    fn a_transfer_comes_after_the_queries_before_it_and_before_those_after_it() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        let stream = [0, 1, 1, 0, 2, b'd', b'!', 0, 1, 2];
        assert_eq!(run(&mut framer, &stream, &mut replies), (Pause::Transfer(b"d!".to_vec()), 2));
        assert_eq!(replies.octets().len(), 1002);
        replies.clear();
        assert_eq!(run(&mut framer, &[], &mut replies), (Pause::NeedsInput, 1));
        assert_eq!(replies.octets().len(), 2002);
    }

    #[test]
    fn what_came_before_a_message_of_no_octets_is_answered() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        assert_eq!(run(&mut framer, &[0, 1, 1, 0, 0], &mut replies), (Pause::Broken, 1));
        assert_eq!(replies.octets().len(), 1002);
    }
}
