//! Empty: the tests are in system/.
