//! Routes: a path that none of them names is refused.
