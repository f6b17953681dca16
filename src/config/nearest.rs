//! Suggestions for misspelt names: the known name with the smallest edit distance.

/// Returns the value of the candidate with the fewest edits from `name`, and of several such candidates that of the first.
pub(super) fn nearest<T>(name: &str, candidates: impl Iterator<Item = (String, T)>) -> Option<T> {
    let distances = candidates.map(|(candidate, value)| (edits(name, &candidate), value));
    distances.min_by_key(|(distance, _)| *distance).map(|(_, value)| value)
}

/// Levenshtein distance: the number of inserted, removed and replaced characters that turn `from` into `to`.
fn edits(from: &str, to: &str) -> usize {
    // `row[i]` is the distance between the characters of `from` that were read and the first `i` characters of `to`.
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (read, from_char) in from.chars().enumerate() {
        let mut diagonal = read;
        row[0] = read + 1;
        for (index, to_char) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from_char != *to_char);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_characters() {
        for (from, to, expected) in
            [("", "", 0), ("", "dns", 3), ("dns", "", 3), ("zone", "zones", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }
}
