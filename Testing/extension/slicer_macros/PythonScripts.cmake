# ctkMacroCompilePythonScript(TARGET_NAME SCRIPTS [RESOURCES] [SOURCE_DIR] DESTINATION_DIR INSTALL_DIR
#                             [NO_INSTALL_SUBDIR])
#
# Copies the listed scripts and resources to DESTINATION_DIR, compiles the scripts when the project is built, and
# installs DESTINATION_DIR into INSTALL_DIR: as a folder of its own, or its content alone with NO_INSTALL_SUBDIR.
# A listed file that does not exist stops the configuration. The copies are made when the project is configured,
# which spares a hundred build commands; Slicer makes them when it is built.
function(ctkMacroCompilePythonScript)
  # ${ARGN} and not PARSE_ARGV: the lists come quoted, as one argument each
  cmake_parse_arguments(ARG "NO_INSTALL_SUBDIR"
    "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "ctkMacroCompilePythonScript does not know ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  foreach(argument TARGET_NAME SCRIPTS DESTINATION_DIR INSTALL_DIR)
    if(NOT ARG_${argument})
      message(FATAL_ERROR "ctkMacroCompilePythonScript needs ${argument}")
    endif()
  endforeach()
  if(NOT ARG_SOURCE_DIR)
    set(ARG_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()

  foreach(file IN LISTS ARG_SCRIPTS ARG_RESOURCES)
    if(NOT EXISTS ${ARG_SOURCE_DIR}/${file} OR IS_DIRECTORY ${ARG_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${ARG_TARGET_NAME} lists ${file}, which is not there")
    endif()
    configure_file(${ARG_SOURCE_DIR}/${file} ${ARG_DESTINATION_DIR}/${file} COPYONLY)
  endforeach()

  list(TRANSFORM ARG_SCRIPTS PREPEND ${ARG_DESTINATION_DIR}/ OUTPUT_VARIABLE scripts)
  string(REPLACE ";" "\n" names "${scripts}")
  set(list_file ${CMAKE_CURRENT_BINARY_DIR}/${ARG_TARGET_NAME}_scripts.txt)
  file(WRITE ${list_file} "${names}\n")
  add_custom_target(Compile${ARG_TARGET_NAME}PythonFiles ALL
    COMMAND ${Python3_EXECUTABLE} -m compileall -q -i ${list_file})

  if(ARG_NO_INSTALL_SUBDIR)
    string(APPEND ARG_DESTINATION_DIR /)
  endif()
  install(DIRECTORY ${ARG_DESTINATION_DIR} DESTINATION ${ARG_INSTALL_DIR} USE_SOURCE_PERMISSIONS)
endfunction()
