#!python
