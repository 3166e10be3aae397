"""Linear and mixed-integer formulations, solved by HiGHS."""
