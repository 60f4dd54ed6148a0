//! DNS over hickory.
