//! Storage for the records of one node, which takes little memory when there are few.

use std::sync::Arc;

use crate::zone::Rrset;

/// Rrsets of one node. Most nodes have none or one, for which no slice is allocated.
#[derive(Clone, Debug, Default)]
pub(super) enum Rrsets {
    #[default]
    None,
    One(Rrset),
    Many(Arc<[Rrset]>),
}

impl Rrsets {
    #[inline]
    pub(super) fn as_slice(&self) -> &[Rrset] {
        match self {
            Rrsets::None => &[],
            Rrsets::One(rrset) => std::slice::from_ref(rrset),
            Rrsets::Many(rrsets) => rrsets,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Rrsets::None)
    }
}

impl FromIterator<Rrset> for Rrsets {
    fn from_iter<I: IntoIterator<Item = Rrset>>(rrsets: I) -> Rrsets {
        let mut rrsets = rrsets.into_iter();
        match (rrsets.next(), rrsets.next()) {
            (None, _) => Rrsets::None,
            (Some(only), None) => Rrsets::One(only),
            (Some(first), Some(second)) => Rrsets::Many([first, second].into_iter().chain(rrsets).collect()),
        }
    }
}
