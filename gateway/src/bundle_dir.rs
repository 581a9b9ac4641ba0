//! bundle_dir
