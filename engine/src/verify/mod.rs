//! Policy verbs as pure functions: check, matrix, tests.
