//! A bundle: everything that decides, parsed and checked as one.
