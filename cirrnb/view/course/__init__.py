"""The course: slices on which a sign is switched on and off, exercises that say what is wrong, and a quiz.

`switched` needs no kernel; `form` asks and `form.js` is what a reader sees of it; `exercise` and `questions` are the
exercises, `quiz` the staging of cases, `words` and `result` what it says; `progress` keeps what was answered.
"""
