//! The key that an operator probably meant by one that does not exist.

/// The name among `names` with the smallest edit distance to `key`, if the distance is small enough for a typing error.
pub(super) fn nearest_of(key: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Our keys are short. A longer key is no typing error, and comparing it would cost time.
    if key.len() > 64 {
        return None;
    }
    let key = key.to_ascii_lowercase().replace('-', "_");
    // Two transposed letters count as two replacements. A distance of the whole length means another word.
    let distance_max = (key.len() / 3).max(2).min(key.len().saturating_sub(1));
    names
        .map(|name| (edit_distance(key.as_bytes(), name.as_bytes()), name))
        .filter(|&(distance, _)| distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, removals and replacements that turn `a` into `b` (Levenshtein distance).
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
