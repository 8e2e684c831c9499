//! The schema ring: manifests are fresh, and every CEL rule accepts and refuses what it should.
