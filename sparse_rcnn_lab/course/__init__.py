"""The course: what the lessons call, and assignments that grade themselves."""
