//! The real size of a piece of the heap: its bytes, and the share that the allocator needs for itself.
//!
//! Allocators differ by a few bytes a piece. The figures are those of glibc, because they lie between those of the others.

use compact_str::CompactString;

/// Bytes before each piece that name its size.
const HEAD_BYTES: usize = 8;
/// Sizes are multiples of this.
const STEP_BYTES: usize = 16;
const PIECE_BYTES_MIN: usize = 32;

/// Bytes that a piece of `bytes` takes; none is allocated for 0.
pub(crate) const fn block(bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let whole = (bytes + HEAD_BYTES).next_multiple_of(STEP_BYTES);
    (if whole < PIECE_BYTES_MIN { PIECE_BYTES_MIN } else { whole }) as u64
}

/// Heap bytes of a text; none if it is short enough to be in its place.
pub(crate) fn text(text: &CompactString) -> u64 {
    if text.is_heap_allocated() { block(text.capacity()) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_takes_whole_steps_and_a_short_text_none() {
        assert_eq!([0, 1, 24, 25, 40, 41].map(block), [0, 32, 32, 48, 48, 64]);
        assert_eq!(text(&CompactString::from("24 bytes fit in the place")), 48);
        assert_eq!(text(&CompactString::from("24 bytes fit in a place!")), 0);
    }
}
