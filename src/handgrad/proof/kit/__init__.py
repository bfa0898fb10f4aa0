"""The conformance kit: cases for people who write kernels in other languages."""
