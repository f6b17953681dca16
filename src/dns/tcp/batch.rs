//! A batch: all complete queries among the bytes that were read from a connection, answered together.

use super::framer::{Framer, LENGTH_OCTETS};
use crate::dns::answer::Verdict;

const MESSAGE_OCTETS_MAX: usize = 65_535;
/// Length in bytes of the buffer for replies. It has room for two replies of any length.
const REPLIES_OCTETS: usize = 2 * (LENGTH_OCTETS + MESSAGE_OCTETS_MAX);

pub(super) struct Replies {
    octets: Box<[u8]>,
    len: usize,
}

/// Reason for which a batch ends: all complete queries are answered, the replies have to be written first because another
/// one might not fit into the buffer, the next query is for a zone transfer, or the bytes are no DNS messages with lengths.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum BatchEnd {
    NeedsInput,
    Full,
    Transfer(Vec<u8>),
    Invalid,
}

impl Replies {
    pub(super) fn new() -> Replies {
        Replies { octets: vec![0; REPLIES_OCTETS].into(), len: 0 }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.len + LENGTH_OCTETS;
        self.octets.get_mut(start..start + MESSAGE_OCTETS_MAX)
    }

    fn push(&mut self, octets: usize) {
        self.octets[self.len..self.len + LENGTH_OCTETS].copy_from_slice(&(octets as u16).to_be_bytes());
        self.len += LENGTH_OCTETS + octets;
    }
}

/// Answers the complete queries in the framer and in `input`, and adds their number to `queries`.
pub(super) fn answer_all(
    framer: &mut Framer,
    input: &mut &[u8],
    replies: &mut Replies,
    queries: &mut usize,
    mut answer: impl FnMut(&[u8], &mut [u8]) -> Verdict,
) -> BatchEnd {
    loop {
        let Some(room) = replies.room() else { return BatchEnd::Full };
        let query = match framer.next(input) {
            Ok(Some(query)) => query,
            Ok(None) => return BatchEnd::NeedsInput,
            Err(_) => return BatchEnd::Invalid,
        };
        *queries += 1;
        match answer(query, room) {
            Verdict::Reply(reply) => replies.push(reply.len),
            Verdict::Drop => {}
            Verdict::Transfer => return BatchEnd::Transfer(query.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{place::ReplyPlace, reply::Reply};
    use crate::wire::Rcode;
    use crate::zone::RecordType;

    /// Reports a transfer for `d` and no reply for `x`. The reply to any other query has 1,000 times the value of the
    /// query's first byte as its length, at most 65,535.
    fn answer(query: &[u8], out: &mut [u8]) -> Verdict {
        match query {
            [b'd', ..] => Verdict::Transfer,
            [b'x', ..] => Verdict::Drop,
            _ => {
                let len = (usize::from(query[0]) * 1000).min(out.len());
                out[..len].fill(query[0]);
                Verdict::Reply(Reply {
                    len,
                    code: Rcode::NOERROR,
                    place: ReplyPlace::of(None, RecordType::A, Rcode::NOERROR),
                    is_truncated: false,
                    has_good_cookie: false,
                })
            }
        }
    }

    fn run(framer: &mut Framer, mut input: &[u8], replies: &mut Replies) -> (BatchEnd, usize) {
        let mut queries = 0;
        let end = answer_all(framer, &mut input, replies, &mut queries, answer);
        framer.keep(input);
        (end, queries)
    }

    #[test]
    fn all_queries_of_one_read_are_answered_together_in_order() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        let stream = [&[0, 1, 2][..], &[0, 1, 1].repeat(49), &[0, 1, b'x', 0]].concat();
        assert_eq!(run(&mut framer, &stream, &mut replies), (BatchEnd::NeedsInput, 51));
        assert_eq!(replies.octets().len(), 2002 + 49 * 1002);
        assert_eq!(replies.octets()[..3], [7, 208, 2]);
        assert_eq!(replies.octets()[2002..2005], [3, 232, 1]);
        assert_eq!(framer.held(), 1);
    }

    #[test]
    fn batch_ends_when_the_next_reply_might_not_fit_and_continues_after_a_write() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        let stream = [0, 1, 66].repeat(4);
        assert_eq!(run(&mut framer, &stream, &mut replies), (BatchEnd::Full, 2));
        assert_eq!(replies.octets().len(), 2 * 65_537);
        replies.clear();
        assert_eq!(run(&mut framer, &[], &mut replies), (BatchEnd::Full, 2));
    }

    #[test]
    fn batch_ends_at_a_query_for_a_transfer_so_that_replies_keep_their_order() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        let stream = [0, 1, 1, 0, 2, b'd', b'!', 0, 1, 2];
        assert_eq!(run(&mut framer, &stream, &mut replies), (BatchEnd::Transfer(b"d!".to_vec()), 2));
        assert_eq!(replies.octets().len(), 1002);
        replies.clear();
        assert_eq!(run(&mut framer, &[], &mut replies), (BatchEnd::NeedsInput, 1));
        assert_eq!(replies.octets().len(), 2002);
    }

    #[test]
    fn queries_before_an_empty_message_are_answered() {
        let (mut framer, mut replies) = (Framer::default(), Replies::new());
        assert_eq!(run(&mut framer, &[0, 1, 1, 0, 0], &mut replies), (BatchEnd::Invalid, 1));
        assert_eq!(replies.octets().len(), 1002);
    }
}
