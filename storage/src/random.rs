//! Where unpredictable bytes come from.

/// `N` bytes from the thread's ChaCha generator, which the operating system seeds and reseeds.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}
